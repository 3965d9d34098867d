package fromproto

import (
	"fmt"
	"slices"
	"unsafe"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/route"
)

// fewHosts is how many virtual hosts a table has that are all made at once.
const fewHosts = 64

// virtualHosts and domains are the numbers of RouteConfiguration.virtual_hosts and of
// VirtualHost.domains.
const (
	virtualHosts = 2
	domains      = 2
)

// part is a piece of a message's bytes.
type part struct{ at, end uint32 }

// deferred is a table of many virtual hosts, which are read from its bytes one by one: all
// of them once, for the verdict, and then each by the first request that needs it. The
// bytes are kept anyway, for config_dump.
type deferred struct {
	raw     []byte
	parts   []part
	builder *tableBuilder
}

// splitTable returns the bytes of a RouteConfiguration without its virtual hosts, and where
// those are. It leaves what is no message to whoever reads the rest.
func splitTable(raw []byte) (rest []byte, parts []part) {
	for at := 0; at < len(raw); {
		num, typ, n := protowire.ConsumeTag(raw[at:])
		if n < 0 {
			return raw, nil
		}
		size := protowire.ConsumeFieldValue(num, typ, raw[at+n:])
		if size < 0 {
			return raw, nil
		}
		end := at + n + size
		if num == virtualHosts && typ == protowire.BytesType {
			_, prefix := protowire.ConsumeVarint(raw[at+n:])
			parts = append(parts, part{uint32(at + n + prefix), uint32(end)})
		} else {
			rest = append(rest, raw[at:end]...)
		}
		at = end
	}
	return rest, slices.Clip(parts)
}

// compileMany is compile for a table of many virtual hosts. What it refuses, it refuses as
// compile does.
func compileMany(rest, raw []byte, parts []part, p *filter.Parser, validate bool) (*route.Table, error) {
	var pb routev3.RouteConfiguration
	if err := Unmarshal(rest, &pb); err != nil {
		return nil, err
	}
	b, _, err := tableParts(&pb, p, validate)
	if err != nil {
		return nil, err
	}
	d := &deferred{raw: raw, parts: parts}
	list := make([]route.Deferred, len(parts))
	for i := range parts {
		vh, err := d.read(i, b)
		if err != nil {
			return nil, filter.AtIndex("virtual_hosts", i, err)
		}
		list[i].Domains = d.domains(i, vh.Domains)
		if !vh.Renewable(len(b.table.perFilter)) {
			list[i].Host = vh
		}
	}
	d.builder = b.later()
	return route.NewDeferredTable(pb.Name, list, d.host, tableOptions(&pb))
}

// later is b for what was validated before: clusters may have gone meanwhile, and nobody
// reads what a parser collects.
func (b *tableBuilder) later() *tableBuilder {
	out := *b
	out.validate = false
	out.p = &filter.Parser{Registry: b.p.Registry, Routes: b.p.Routes, Runtime: b.p.Runtime, Stats: b.p.Stats}
	return &out
}

func (d *deferred) read(i int, b *tableBuilder) (*route.VirtualHost, error) {
	var pb routev3.VirtualHost
	if err := Unmarshal(d.raw[d.parts[i].at:d.parts[i].end], &pb); err != nil {
		return nil, err
	}
	return b.virtualHost(&pb)
}

// host makes a virtual host anew. It is safe for concurrent use.
func (d *deferred) host(i int) *route.VirtualHost {
	b := *d.builder
	p := *b.p // collects what nobody wants
	b.p = &p
	vh, err := d.read(i, &b)
	if err != nil {
		panic(fmt.Sprintf("fromproto: bytes that were a virtual host are none any more: %v", err))
	}
	return vh
}

// domains returns the domains of a virtual host as views of the table's bytes, which are
// never changed: there are many, and each would be an allocation.
func (d *deferred) domains(i int, names []string) []string {
	raw := d.raw[d.parts[i].at:d.parts[i].end]
	out := make([]string, 0, len(names))
	for len(raw) > 0 && len(out) < len(names) {
		num, typ, n := protowire.ConsumeTag(raw)
		size := protowire.ConsumeFieldValue(num, typ, raw[n:])
		if num == domains && typ == protowire.BytesType {
			view, _ := protowire.ConsumeBytes(raw[n:])
			out = append(out, unsafe.String(unsafe.SliceData(view), len(view)))
		}
		raw = raw[n+size:]
	}
	return out
}
