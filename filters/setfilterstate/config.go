package setfilterstate

import (
	"errors"
	"fmt"

	valuev3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/common/set_filter_state/v3"
	httpv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/set_filter_state/v3"
	networkv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/set_filter_state/v3"

	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/filter/fromproto"
)

// parse decodes envoy.extensions.filters.network.set_filter_state.v3.Config.
func parse(raw []byte, p *filter.Parser) (*Config, error) {
	var pb networkv3.Config
	if err := fromproto.Unmarshal(raw, &pb); err != nil {
		return nil, err
	}
	// A TLS handshake is over when filters see a connection.
	err := fromproto.Check(&pb, p, fromproto.Fields{Used: []string{"on_new_connection", "on_downstream_data"}})
	if err != nil {
		return nil, err
	}
	c := &Config{}
	if c.OnOpen, err = values("on_new_connection", pb.OnNewConnection, p); err != nil {
		return nil, err
	}
	c.OnData, err = values("on_downstream_data", pb.OnDownstreamData, p)
	return c, err
}

// parseHTTP decodes envoy.extensions.filters.http.set_filter_state.v3.Config.
func parseHTTP(raw []byte, p *filter.Parser) (*Config, error) {
	var pb httpv3.Config
	if err := fromproto.Unmarshal(raw, &pb); err != nil {
		return nil, err
	}
	if err := fromproto.Check(&pb, p, fromproto.Fields{Used: []string{"on_request_headers"}}); err != nil {
		return nil, err
	}
	v, err := values("on_request_headers", pb.OnRequestHeaders, p)
	return &Config{OnOpen: v}, err
}

func values(field string, list []*valuev3.FilterStateValue, p *filter.Parser) ([]Value, error) {
	var out []Value
	for i, pb := range list {
		v, err := value(pb, p)
		if err != nil {
			return nil, filter.AtIndex(field, i, err)
		}
		out = append(out, v)
	}
	return out, nil
}

func value(pb *valuev3.FilterStateValue, p *filter.Parser) (v Value, err error) {
	err = fromproto.Check(pb, p, fromproto.Fields{
		Used:    []string{"object_key", "factory_key", "format_string", "skip_if_empty", "shared_with_upstream"},
		Ignored: []string{"read_only"}, // nobody here changes what another one has set
	})
	if err != nil {
		return v, err
	}
	v.Key, v.SkipIfEmpty = pb.GetObjectKey(), pb.SkipIfEmpty
	v.Shared = pb.SharedWithUpstream != valuev3.FilterStateValue_NONE
	v.Transitive = pb.SharedWithUpstream == valuev3.FilterStateValue_TRANSITIVE
	if v.Key == "" {
		return v, filter.At("object_key", errors.New("must not be empty"))
	}
	name, field := pb.FactoryKey, "factory_key"
	if name == "" {
		name, field = v.Key, "object_key"
	}
	if v.Make = filter.ObjectFactoryOf(name); v.Make == nil {
		return v, filter.At(field, fmt.Errorf("there is no object factory %q in this build", name))
	}
	if pb.GetFormatString() == nil {
		return v, filter.At("format_string", errors.New("is required"))
	}
	v.Format, err = fromproto.Format(pb.GetFormatString())
	return v, filter.At("format_string", err)
}
