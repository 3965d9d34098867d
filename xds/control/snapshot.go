package control

import (
	"crypto/sha256"
	"encoding/hex"
	"maps"

	"github.com/envoyproxy/go-control-plane/pkg/cache/types"
	cachev3 "github.com/envoyproxy/go-control-plane/pkg/cache/v3"

	"github.com/mecha-mesh/mecha/xds/ads"
)

// snapshot makes a set into what the cache serves. A type's version is a digest of
// its content: the same files give the same version after a restart, and a type
// that did not change is not sent again.
func snapshot(s Set) (*cachev3.Snapshot, error) {
	items := map[string][]types.Resource{}
	sums := map[string][]byte{}
	for _, r := range s.sorted() {
		items[r.TypeURL] = append(items[r.TypeURL], r.Message)
		sums[r.TypeURL] = append(append(sums[r.TypeURL], r.Name...), r.digest[:]...)
	}
	out := &cachev3.Snapshot{}
	for _, k := range kinds() {
		sum := sha256.Sum256(sums[k.typeURL])
		i := cachev3.GetResponseType(k.typeURL)
		out.Resources[i] = cachev3.NewResources(hex.EncodeToString(sum[:8]), items[k.typeURL])
	}
	// Shared by all nodes of a group from here on: nothing may be built lazily.
	return out, out.ConstructVersionMap()
}

// stages are the sets to publish one after the other on the way from old to new, so
// that no proxy ever holds a reference to something it has lost or not got yet:
//
//  1. what is new or changed among clusters and what they need; nothing is removed
//  2. listeners and routes as they shall be
//  3. what nothing refers to any more goes
//
// Stages that change nothing are left out.
func stages(old, new Set) []Set {
	supply := maps.Clone(old)
	for k, r := range new {
		if !refers(k.typeURL) {
			supply[k] = r
		}
	}
	demand := maps.Clone(supply)
	maps.DeleteFunc(demand, func(k key, _ *Resource) bool { return refers(k.typeURL) })
	for k, r := range new {
		if refers(k.typeURL) {
			demand[k] = r
		}
	}
	var out []Set
	last := old
	for _, s := range []Set{supply, demand, new} {
		if !same(last, s) {
			out = append(out, s)
			last = s
		}
	}
	return out
}

// refers tells the types that name clusters from those that are what they need.
func refers(typeURL string) bool {
	switch typeURL {
	case ads.ListenerType, ads.RouteType, ads.ScopedRouteType, ads.VirtualHostType:
		return true
	}
	return false
}

func same(a, b Set) bool {
	return maps.EqualFunc(a, b, func(x, y *Resource) bool { return x.digest == y.digest })
}

// differs tells whether two sets differ in a type.
func differs(a, b Set, typeURL string) bool {
	only := func(s Set) Set {
		out := maps.Clone(s)
		maps.DeleteFunc(out, func(k key, _ *Resource) bool { return k.typeURL != typeURL })
		return out
	}
	return !same(only(a), only(b))
}
