package cluster

import (
	"strings"

	"github.com/mecha-mesh/mecha/proxy/stats"
)

// ExtraStats names counters that somebody else keeps for a cluster, such as those of gRPC
// methods: Of is what they are of, A and B tell them apart.
type ExtraStats struct{ Of, A, B string }

// Bind shows counters in the scope of the cluster, under Of and, if it is not empty, A. sc may
// be nil.
func (k ExtraStats) Bind(sc *stats.Scope, counters any) {
	if sc == nil {
		return
	}
	if sc = sc.Child(k.Of); k.A != "" {
		sc = sc.Child(k.A)
	}
	sc.Bind(counters)
}

// maxExtra bounds how many there are of a cluster: their names may come with requests.
const maxExtra = 1000

// extras are the counters that others keep for a cluster.
type extras = bounded[ExtraStats, any]

// Extra returns counters that live as long as the cluster is configured, across its
// versions, or until nobody has used them for stats_eviction_interval. The first call makes them with the scope of the cluster, which is nil if it is
// not shown. It returns nil if there are too many. The strings of key are copied.
func (c *Cluster) Extra(key ExtraStats, fresh func(sc *stats.Scope, key ExtraStats) any) any {
	core := c.running().core
	if v, ok := core.extras.find(key); ok {
		return v
	}
	return core.extras.add(key, maxExtra, func() (ExtraStats, any) {
		key := ExtraStats{strings.Clone(key.Of), strings.Clone(key.A), strings.Clone(key.B)}
		sc := core.scope
		if sc != nil {
			sc = sc.Child("") // so that it can be forgotten
			sc.Evictable(func() { core.extras.remove(key) })
		}
		return key, fresh(sc, key)
	})
}
