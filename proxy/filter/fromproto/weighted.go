package fromproto

import (
	"errors"
	"fmt"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"

	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/match"
	"github.com/mecha-mesh/mecha/proxy/route"
	"github.com/mecha-mesh/mecha/proxy/runtime"
)

// weighted makes a route for each cluster. base is the route without a cluster, own
// what it says itself.
func (b *hostBuilder) weighted(w *routev3.WeightedCluster, base *route.Route, own level) (*route.Weighted, error) {
	err := Check(w, b.p, Fields{
		Used: []string{"clusters", "header_name", "runtime_key_prefix", "use_hash_policy"},
		// Envoy, too, takes the sum of the weights.
		Ignored: []string{"total_weight"},
	})
	if err != nil {
		return nil, err
	}
	var out []route.Share
	for i, c := range w.Clusters {
		r, err := b.weightedRoute(c, base, own)
		if err != nil {
			return nil, filter.AtIndex("clusters", i, err)
		}
		s := route.Share{Route: r, Weight: runtime.UintSetting{Default: uint64(c.GetWeight().GetValue()), Max: 1<<32 - 1}}
		if w.RuntimeKeyPrefix != "" {
			s.Weight.Key = w.RuntimeKeyPrefix + "." + c.Name
		}
		out = append(out, s)
	}
	o := route.WeightedOptions{ByHash: w.GetUseHashPolicy().GetValue(), Runtime: b.p.Runtime}
	if h := w.GetHeaderName(); h != "" {
		o.Header = match.HeaderName(h)
	}
	weighted, err := route.NewWeighted(out, o)
	return weighted, filter.At("clusters", err)
}

func (b *hostBuilder) weightedRoute(c *routev3.WeightedCluster_ClusterWeight, base *route.Route, own level) (*route.Route, error) {
	err := Check(c, b.p, Fields{
		Used: []string{
			"name", "cluster_header", "weight", "request_headers_to_add", "request_headers_to_remove",
			"response_headers_to_add", "response_headers_to_remove", "typed_per_filter_config", "host_rewrite_literal",
			"metadata_match",
		},
	})
	if err != nil {
		return nil, err
	}
	if (c.Name == "") == (c.ClusterHeader == "") {
		return nil, filter.At("name", errors.New("exactly one of name and cluster_header must be set"))
	}
	if err := b.mustExist(c.Name); err != nil {
		return nil, filter.At("name", err)
	}
	l, err := b.level(c)
	if err != nil {
		return nil, err
	}
	r, f := *base, *base.Forward
	f.Cluster = c.Name
	if c.ClusterHeader != "" {
		f.ClusterHeader = match.HeaderName(c.ClusterHeader)
	}
	f.Match = f.Match.Merge(lbLabels(c.MetadataMatch))
	f.WeightedHost = c.GetHostRewriteLiteral()
	r.Forward = &f
	b.assemble(&r, own, &l)
	return &r, nil
}

// specifierPlugins reads cluster_specifier_plugins: this build has none, so only those
// that are optional are let in, to have no effect on the routes that name them: these
// find no cluster.
func (b *tableBuilder) specifierPlugins(list []*routev3.ClusterSpecifierPlugin) error {
	for i, pb := range list {
		if err := specifierPlugin(pb, b.p); err != nil {
			return filter.AtIndex("cluster_specifier_plugins", i, err)
		}
		if b.plugins == nil {
			b.plugins = map[string]bool{}
		}
		b.plugins[pb.GetExtension().GetName()] = true
	}
	return nil
}

func (b *tableBuilder) specifierNamed(name string) error {
	if !b.plugins[name] {
		return fmt.Errorf("%q is none of cluster_specifier_plugins", name)
	}
	return nil
}

func specifierPlugin(pb *routev3.ClusterSpecifierPlugin, p *filter.Parser) error {
	c, err := Any(pb.GetExtension().GetTypedConfig())
	if err != nil {
		return filter.At("extension.typed_config", err)
	}
	err = fmt.Errorf("this build does not support the cluster specifier %q", c.Type)
	if pb.IsOptional {
		p.Warnings = append(p.Warnings, "optional cluster specifier left out: "+err.Error())
		return nil
	}
	return filter.At("extension.typed_config", err)
}
