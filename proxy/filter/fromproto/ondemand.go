package fromproto

import (
	"errors"
	"maps"
	"slices"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/route"
)

// OnDemand is a RouteConfiguration whose virtual hosts are delivered one by one (vhds). It
// compiles each once, and makes a table of those that are there. It is not safe for
// concurrent use; the tables are.
type OnDemand struct {
	From filter.ConfigSource // vhds.config_source

	name    string
	options route.Options
	builder tableBuilder
	fixed   []*route.VirtualHost
	hosts   map[string]*route.VirtualHost // that were delivered, by the name of their resource
}

// HasVHDS reports whether a RouteConfiguration has vhds, without reading all of it.
func HasVHDS(raw []byte) bool {
	const vhds = 9
	for len(raw) > 0 {
		num, typ, n := protowire.ConsumeTag(raw)
		if n < 0 {
			return false
		}
		if num == vhds && typ == protowire.BytesType {
			return true
		}
		raw = raw[n:]
		if n = protowire.ConsumeFieldValue(num, typ, raw); n < 0 {
			return false
		}
		raw = raw[n:]
	}
	return false
}

// RoutesOnDemand compiles a RouteConfiguration with vhds; nil if it has none.
func RoutesOnDemand(raw []byte, p *filter.Parser) (*OnDemand, error) {
	var pb routev3.RouteConfiguration
	if err := Unmarshal(raw, &pb); err != nil {
		return nil, err
	}
	if pb.Vhds == nil {
		return nil, nil
	}
	from, err := ConfigSource(pb.Vhds.ConfigSource)
	if err != nil {
		return nil, filter.At("vhds.config_source", err)
	}
	pb.Vhds = nil
	b, hosts, err := tableParts(&pb, p, false)
	if err != nil {
		return nil, err
	}
	o := &OnDemand{From: from, name: pb.Name, options: tableOptions(&pb), builder: *b, fixed: hosts, hosts: map[string]*route.VirtualHost{}}
	o.options.OnDemand = true
	_, err = o.Table()
	return o, err
}

// Set compiles a virtual host and takes it in under the name of its resource. If it is
// refused, or has a domain of another one, everything stays as it was.
func (o *OnDemand) Set(name string, raw []byte, p *filter.Parser) error {
	var pb routev3.VirtualHost
	if err := Unmarshal(raw, &pb); err != nil {
		return err
	}
	b := o.builder
	b.p = p
	vh, err := b.virtualHost(&pb)
	if err != nil {
		return err
	}
	before, there := o.hosts[name]
	o.hosts[name] = vh
	if _, err = o.Table(); err == nil {
		return nil
	}
	if delete(o.hosts, name); there {
		o.hosts[name] = before
	}
	var pe *filter.PathError
	if errors.As(err, &pe) {
		err = pe.Err // its path counts hosts of other resources
	}
	return filter.At("domains", err)
}

// Remove takes a virtual host away again.
func (o *OnDemand) Remove(name string) { delete(o.hosts, name) }

// Table returns a table of the virtual hosts that are there now. One that was delivered
// takes the place of a fixed one of the same name.
func (o *OnDemand) Table() (*route.Table, error) {
	var list []*route.VirtualHost
	taken := map[string]bool{}
	for _, name := range slices.Sorted(maps.Keys(o.hosts)) {
		list = append(list, o.hosts[name])
		taken[o.hosts[name].Name] = true
	}
	for _, vh := range o.fixed {
		if !taken[vh.Name] {
			list = append(list, vh)
		}
	}
	return route.NewTable(o.name, list, o.options)
}
