package xds

import (
	"maps"
	"slices"
	"strings"
	"time"

	adminv3 "github.com/envoyproxy/go-control-plane/envoy/admin/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/mecha-mesh/mecha/xds/ads"
)

// inlineScopes are routing scopes that stand in a listener.
type inlineScopes struct {
	pb      *hcmv3.ScopedRoutes
	updated time.Time
}

// dynamicScopes are routing scopes that came by themselves.
type dynamicScopes struct {
	name, version string
	updated       time.Time
	records       []Record
}

// dynamicScopes returns copies, sorted by name.
func (m *Manager) dynamicScopes() (out []dynamicScopes) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, key := range slices.Sorted(maps.Keys(m.scoped)) {
		s := m.scoped[key]
		set := m.scopeSets[s.source]
		if set == nil || !set.answered {
			continue
		}
		one := dynamicScopes{name: s.from.Name, version: set.version, updated: set.updated}
		for _, r := range set.inUse.types[ads.ScopedRouteType] {
			if r.Body != nil {
				one.records = append(one.records, *r)
			}
		}
		slices.SortFunc(one.records, func(a, b Record) int { return strings.Compare(a.Name, b.Name) })
		out = append(out, one)
	}
	return out
}

// scopes shows routing scopes, by the names of scoped_routes.
func (d *dump) scopes(inline []inlineScopes) proto.Message {
	out := &adminv3.ScopedRoutesConfigDump{}
	for _, s := range inline {
		if !d.names.MatchString(s.pb.GetName()) {
			continue
		}
		one := &adminv3.ScopedRoutesConfigDump_InlineScopedRouteConfigs{Name: s.pb.GetName(), LastUpdated: stamp(s.updated)}
		for _, c := range s.pb.GetScopedRouteConfigurationsList().GetScopedRouteConfigurations() {
			if a, err := anypb.New(c); err == nil {
				one.ScopedRouteConfigs = append(one.ScopedRouteConfigs, a)
			}
		}
		out.InlineScopedRouteConfigs = append(out.InlineScopedRouteConfigs, one)
	}
	for _, s := range d.m.dynamicScopes() {
		if !d.names.MatchString(s.name) {
			continue
		}
		one := &adminv3.ScopedRoutesConfigDump_DynamicScopedRouteConfigs{Name: s.name, VersionInfo: s.version, LastUpdated: stamp(s.updated)}
		for i := range s.records {
			one.ScopedRouteConfigs = append(one.ScopedRouteConfigs, d.shown.any(s.records[i].Body, false))
		}
		out.DynamicScopedRouteConfigs = append(out.DynamicScopedRouteConfigs, one)
	}
	return out
}
