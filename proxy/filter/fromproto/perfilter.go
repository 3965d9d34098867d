package fromproto

import (
	"errors"
	"fmt"
	"slices"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/route"
)

const filterConfig = "envoy.config.route.v3.FilterConfig"

// perFilter converts typed_per_filter_config of one level, in the order of the names.
func perFilter(configs map[string]*anypb.Any, p *filter.Parser) ([]route.PerFilter, error) {
	names := make([]string, 0, len(configs))
	for name := range configs {
		names = append(names, name)
	}
	slices.Sort(names)
	var out []route.PerFilter
	for _, name := range names {
		one, err := perFilterConfig(name, configs[name], p)
		if err != nil {
			return nil, filter.At(element("typed_per_filter_config", name), err)
		}
		if one != nil {
			out = append(out, *one)
		}
	}
	return out, nil
}

// perFilterConfig converts what a level says about one filter; nil if it is optional
// and unknown.
func perFilterConfig(name string, a *anypb.Any, p *filter.Parser) (*route.PerFilter, error) {
	c, err := Any(a)
	if err != nil {
		return nil, err
	}
	out := &route.PerFilter{}
	optional := false
	if c.Type == filterConfig {
		var fc routev3.FilterConfig
		if err := Unmarshal(c.Value, &fc); err != nil {
			return nil, err
		}
		optional, out.Disabled = fc.IsOptional, fc.Disabled
		if fc.Config == nil && !fc.Disabled {
			return nil, errors.New("is empty: config or disabled must be set")
		}
		if fc.Config.GetTypeUrl() == "" {
			out.Slot = p.Registry.Slot(name)
			return out, nil
		}
		if c, err = Any(fc.Config); err != nil {
			return nil, filter.At("config", err)
		}
	}
	out.Config, err = p.Override(c)
	var unknown *filter.ErrUnknownType
	if errors.As(err, &unknown) && optional {
		p.Warnings = append(p.Warnings, fmt.Sprintf("%s: optional configuration left out: %v", element("typed_per_filter_config", name), err))
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	out.Slot = p.Registry.Slot(name)
	return out, nil
}
