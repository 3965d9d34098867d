package lua

import (
	"errors"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	luav3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/lua/v3"

	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/filter/fromproto"
)

// maxSource is how long a script may be.
const maxSource = 1 << 20

// parse decodes envoy.extensions.filters.http.lua.v3.Lua.
func parse(raw []byte, p *filter.Parser) (*Config, error) {
	var pb luav3.Lua
	if err := fromproto.Unmarshal(raw, &pb); err != nil {
		return nil, err
	}
	err := fromproto.Check(&pb, p, fromproto.Fields{
		Used:    []string{"inline_code", "source_codes", "default_source_code", "stat_prefix", "clear_route_cache", "filter_context"},
		Ignored: []string{"shared_vm_id"},
	})
	if err != nil {
		return nil, err
	}
	c := &Config{StatPrefix: pb.StatPrefix, KeepRoute: pb.ClearRouteCache != nil && !pb.ClearRouteCache.Value, Named: map[string]*script{}}
	if pb.FilterContext != nil {
		c.Context = pb.FilterContext.AsMap()
	}
	inline := pb.InlineCode //nolint:staticcheck // deprecated, and still sent
	switch {
	case inline != "" && pb.DefaultSourceCode != nil:
		return nil, filter.At("inline_code", errors.New("cannot be set together with default_source_code"))
	case inline != "":
		if c.Default, err = newScript(inline); err != nil {
			return nil, filter.At("inline_code", err)
		}
	case pb.DefaultSourceCode != nil:
		if c.Default, err = source(pb.DefaultSourceCode); err != nil {
			return nil, filter.At("default_source_code", err)
		}
	}
	for name, one := range pb.SourceCodes {
		if c.Named[name], err = source(one); err != nil {
			return nil, filter.At("source_codes["+name+"]", err)
		}
	}
	return c, nil
}

func source(pb *corev3.DataSource) (*script, error) {
	text, err := fromproto.Bytes(pb, maxSource)
	if err != nil {
		return nil, err
	}
	return newScript(text)
}

// parseRoute decodes envoy.extensions.filters.http.lua.v3.LuaPerRoute.
func parseRoute(raw []byte, p *filter.Parser) (*Config, error) {
	var pb luav3.LuaPerRoute
	if err := fromproto.Unmarshal(raw, &pb); err != nil {
		return nil, err
	}
	err := fromproto.Check(&pb, p, fromproto.Fields{
		Used:    []string{"disabled", "name", "source_code", "filter_context"},
		Ignored: []string{"shared_vm_id"},
	})
	if err != nil {
		return nil, err
	}
	r := &Route{Disabled: pb.GetDisabled(), Name: pb.GetName()}
	if pb.FilterContext != nil {
		r.Context = pb.FilterContext.AsMap()
	}
	if code := pb.GetSourceCode(); code != nil {
		if r.Script, err = source(code); err != nil {
			return nil, filter.At("source_code", err)
		}
	}
	return &Config{Route: r}, nil
}
