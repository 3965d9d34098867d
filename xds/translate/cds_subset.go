package translate

import (
	"errors"
	"slices"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"

	"github.com/mecha-mesh/mecha/proxy/cluster"
	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/filter/fromproto"
)

// legacySubset wraps the policy of lb_policy into lb_subset_config, which is off without
// selectors.
func legacySubset(pb *clusterv3.Cluster_LbSubsetConfig, spec *cluster.Spec, p *filter.Parser) error {
	if len(pb.GetSubsetSelectors()) == 0 {
		return nil
	}
	if err := fromproto.Check(pb, p, fromproto.Fields{Used: []string{
		"fallback_policy", "default_subset", "subset_selectors", "locality_weight_aware", "scale_locality_weight", "panic_mode_any",
		"list_as_any", "metadata_fallback_policy",
	}}); err != nil {
		return err
	}
	child := spec.Policy
	s := &cluster.Subset{
		Fallback: cluster.NoFallback + cluster.SubsetFallback(pb.FallbackPolicy), Default: cluster.NewLabels(pb.DefaultSubset.AsMap()),
		LocalityWeightAware: pb.LocalityWeightAware, ScaleLocalityWeight: pb.ScaleLocalityWeight, PanicModeAny: pb.PanicModeAny,
		ListAsAny:    pb.ListAsAny,
		FallbackList: pb.MetadataFallbackPolicy == clusterv3.Cluster_LbSubsetConfig_FALLBACK_LIST,
	}
	for i, one := range pb.SubsetSelectors {
		sel, err := selector(one, int32(one.FallbackPolicy))
		if err != nil {
			return filter.AtIndex("subset_selectors", i, err)
		}
		s.Selectors = append(s.Selectors, sel)
	}
	spec.Policy = cluster.Policy{Kind: cluster.SubsetLB, Subset: s, Child: &child}
	return nil
}

// subsetSelector is either of the messages of that name.
type subsetSelector interface {
	GetKeys() []string
	GetSingleHostPerSubset() bool
	GetFallbackKeysSubset() []string
}

func selector(pb subsetSelector, fallback int32) (cluster.SubsetSelector, error) {
	sorted := func(keys []string) []string {
		keys = slices.Clone(keys)
		slices.Sort(keys)
		return slices.Compact(keys)
	}
	s := cluster.SubsetSelector{
		Keys: sorted(pb.GetKeys()), Fallback: cluster.SubsetFallback(fallback),
		FallbackKeys: sorted(pb.GetFallbackKeysSubset()), SingleHost: pb.GetSingleHostPerSubset(),
	}
	if s.Fallback != cluster.KeysSubset {
		if len(s.FallbackKeys) > 0 {
			return s, filter.At("fallback_keys_subset", errors.New("is for the fallback_policy KEYS_SUBSET"))
		}
		return s, nil
	}
	foreign := slices.ContainsFunc(s.FallbackKeys, func(k string) bool { return !slices.Contains(s.Keys, k) })
	if len(s.FallbackKeys) == 0 || foreign || len(s.FallbackKeys) == len(s.Keys) {
		return s, filter.At("fallback_keys_subset", errors.New("must be some of the keys of the selector, but not all"))
	}
	return s, nil
}
