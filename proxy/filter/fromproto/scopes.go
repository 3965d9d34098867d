package fromproto

import (
	"errors"
	"fmt"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"

	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/match"
	"github.com/mecha-mesh/mecha/proxy/route"
)

// ScopedRoutes converts scoped_routes; prefix is the stat_prefix of its connection manager. Route tables and scopes that are delivered by
// themselves are noted in p; what is returned makes the source of tables from them.
func ScopedRoutes(pb *hcmv3.ScopedRoutes, prefix string, p *filter.Parser) (func(filter.Env) (filter.RouteSource, error), error) {
	if err := Validate(pb); err != nil {
		return nil, err
	}
	builder, err := scopeKey(pb.ScopeKeyBuilder)
	if err != nil {
		return nil, filter.At("scope_key_builder", err)
	}
	var from filter.ConfigSource
	if pb.RdsConfigSource != nil {
		if from, err = ConfigSource(pb.RdsConfigSource); err != nil {
			return nil, filter.At("rds_config_source", err)
		}
	}
	from.StatPrefix = prefix
	switch c := pb.ConfigSpecifier.(type) {
	case *hcmv3.ScopedRoutes_ScopedRouteConfigurationsList:
		list, err := scopeList(c.ScopedRouteConfigurationsList.GetScopedRouteConfigurations(), from, pb.RdsConfigSource != nil, p)
		if err != nil {
			return nil, filter.At("scoped_route_configurations_list", err)
		}
		return func(env filter.Env) (filter.RouteSource, error) {
			set, err := route.NewScopeSet(withSources(list, env.Routes))
			if err != nil {
				return nil, err
			}
			return route.NewScoped(builder, set, ""), nil
		}, nil
	case *hcmv3.ScopedRoutes_ScopedRds:
		if c.ScopedRds.GetSrdsResourcesLocator() != "" {
			return nil, filter.At("scoped_rds.srds_resources_locator", errors.New("this build does not support xdstp"))
		}
		own, err := ConfigSource(c.ScopedRds.GetScopedRdsConfigSource())
		if err != nil {
			return nil, filter.At("scoped_rds.scoped_rds_config_source", err)
		}
		if p.SRDS == nil {
			p.SRDS = map[string]filter.ScopesFrom{}
		}
		own.StatPrefix = prefix
		all := filter.ScopesFrom{Name: pb.Name, Scopes: own, Routes: from}
		key := all.Key()
		p.SRDS[key] = all
		return func(env filter.Env) (filter.RouteSource, error) {
			if env.Scopes == nil {
				return nil, errors.New("nothing delivers scoped routes here")
			}
			return route.NewScoped(builder, env.Scopes(key), key), nil
		}, nil
	}
	return nil, errors.New("one of scoped_route_configurations_list, scoped_rds must be set")
}

func scopeList(list []*routev3.ScopedRouteConfiguration, from filter.ConfigSource, hasFrom bool, p *filter.Parser) (out []route.Scope, err error) {
	for i, pb := range list {
		s, err := scope(pb, p, true)
		if err == nil && s.RDS != "" && !hasFrom {
			err = errors.New("route_configuration_name needs rds_config_source")
		}
		if err != nil {
			return nil, filter.AtIndex("scoped_route_configurations", i, err)
		}
		if s.RDS != "" {
			needRDS(p, s.RDS, from)
		}
		out = append(out, s)
	}
	if _, err := route.NewScopeSet(out); err != nil {
		return nil, filter.At("scoped_route_configurations", err)
	}
	return out, nil
}

// needRDS notes that the resource refers to a route table.
func needRDS(p *filter.Parser, name string, from filter.ConfigSource) {
	p.RDS = append(p.RDS, name)
	if p.RDSFrom == nil {
		p.RDSFrom = map[string]filter.ConfigSource{}
	}
	p.RDSFrom[name] = from
}

// withSources gives scopes where their tables are.
func withSources(list []route.Scope, routes func(name string) filter.RouteSource) []route.Scope {
	out := make([]route.Scope, len(list))
	for i, s := range list {
		if s.Table != nil {
			s.Routes = s.Table
		} else {
			s.Routes = routes(s.RDS)
		}
		out[i] = s
	}
	return out
}

// Scope converts a ScopedRouteConfiguration that was delivered by itself. Where the table
// comes from is known to who asked for the scope.
func Scope(raw []byte, p *filter.Parser) (route.Scope, error) {
	var pb routev3.ScopedRouteConfiguration
	if err := Unmarshal(raw, &pb); err != nil {
		return route.Scope{}, err
	}
	return scope(&pb, p, false)
}

func scope(pb *routev3.ScopedRouteConfiguration, p *filter.Parser, inline bool) (s route.Scope, err error) {
	err = Check(pb, p, Fields{Used: []string{"name", "route_configuration_name", "route_configuration", "key", "on_demand"}})
	if err != nil {
		return s, err
	}
	s = route.Scope{Name: pb.Name, RDS: pb.RouteConfigurationName, OnDemand: pb.OnDemand}
	if (pb.RouteConfiguration == nil) == (s.RDS == "") {
		return s, filter.At("route_configuration", errors.New("exactly one of route_configuration and route_configuration_name must be set"))
	}
	if pb.RouteConfiguration != nil {
		if s.Table, err = routes(pb.RouteConfiguration, p, inline); err != nil {
			return s, filter.At("route_configuration", err)
		}
	}
	var fragments []string
	for _, f := range pb.GetKey().GetFragments() {
		fragments = append(fragments, f.GetStringKey())
	}
	s.Key = route.ScopeKey(fragments...)
	return s, nil
}

func scopeKey(pb *hcmv3.ScopedRoutes_ScopeKeyBuilder) (b route.KeyBuilder, err error) {
	for i, f := range pb.GetFragments() {
		one, err := scopeFragment(f.GetHeaderValueExtractor())
		if err != nil {
			return nil, filter.AtIndex("fragments", i, filter.At("header_value_extractor", err))
		}
		b = append(b, one)
	}
	return b, nil
}

func scopeFragment(pb *hcmv3.ScopedRoutes_ScopeKeyBuilder_FragmentBuilder_HeaderValueExtractor) (f route.Fragment, err error) {
	f = route.Fragment{Header: match.HeaderName(pb.GetName()), Separator: pb.GetElementSeparator()}
	switch e := pb.GetExtractType().(type) {
	case *hcmv3.ScopedRoutes_ScopeKeyBuilder_FragmentBuilder_HeaderValueExtractor_Index:
		f.Index = int(e.Index)
		if f.Index != 0 && f.Separator == "" {
			return f, filter.At("index", errors.New("needs element_separator unless it is 0"))
		}
	case *hcmv3.ScopedRoutes_ScopeKeyBuilder_FragmentBuilder_HeaderValueExtractor_Element:
		f.Pair, f.Key = e.Element.GetSeparator(), e.Element.GetKey()
	case nil:
		return f, errors.New("one of index, element must be set")
	default:
		return f, fmt.Errorf("this build does not support %T", e)
	}
	return f, nil
}
