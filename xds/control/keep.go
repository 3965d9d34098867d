package control

import (
	"maps"
	"slices"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"

	"github.com/mecha-mesh/mecha/xds/ads"
)

// keepReferred adds to a set the clusters of the one before it that are gone while
// routes or listeners of the new set still send to them, with their endpoints. People
// save one file after the other, and on a busy machine the folder is read in between:
// what is in use goes when nothing refers to it any more. The names are those kept.
func keepReferred(old, set Set) (Set, []string) {
	c := newChecker(set)
	c.missing = map[string]bool{}
	c.references()
	var kept []string
	for _, name := range slices.Sorted(maps.Keys(c.missing)) {
		r := old[key{ads.ClusterType, name}]
		if r == nil {
			continue // never was: check warns
		}
		if kept == nil {
			set = maps.Clone(set)
		}
		kept = append(kept, name)
		set[r.key()] = r
		service := name
		if m, ok := r.Message.(*clusterv3.Cluster); ok && m.GetEdsClusterConfig().GetServiceName() != "" {
			service = m.GetEdsClusterConfig().GetServiceName()
		}
		k := key{ads.EndpointType, service}
		if e := old[k]; e != nil && set[k] == nil {
			set[k] = e
		}
	}
	return set, kept
}
