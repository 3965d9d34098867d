package cluster

import (
	"strings"

	"github.com/mecha-mesh/mecha/proxy/stats"
)

// PartStats are counters of a part of a cluster's requests: those from one zone to
// another ("zone.FROM.TO."), or those that a request has given a name to
// (x-envoy-upstream-alt-stat-name). They are made when they are used first.
type PartStats struct {
	Rq   stats.CodeCounters `stat:"upstream_rq" help:"Responses."`
	Time stats.Histogram    `stat:"upstream_rq_time" help:"Milliseconds from the end of the request to the end of the response."`
}

// maxParts and maxPartName bound how many parts a cluster counts: their names come with
// requests.
const (
	maxParts    = 100
	maxPartName = 64
)

// parts are the PartStats of a cluster.
type parts struct{ bounded[partKey, *PartStats] }

type partKey struct{ a, b string }

// get returns the counters of a part, nil if there are too many.
func (p *parts) get(scope *stats.Scope, k partKey, path ...string) *PartStats {
	if part, ok := p.find(k); ok {
		return part
	}
	return p.add(k, maxParts, func() (partKey, *PartStats) {
		part, key := &PartStats{}, partKey{strings.Clone(k.a), strings.Clone(k.b)}
		for i, name := range path {
			if scope == nil {
				break
			}
			scope = scope.Child(strings.Clone(name))
			if i == 0 {
				scope.Evictable(func() { p.remove(key) })
			}
		}
		if scope != nil {
			scope.Bind(part)
		}
		return key, part
	})
}

// ZoneStats returns the counters of requests from a zone to that of a host, nil if there
// are too many zones.
func (c *Cluster) ZoneStats(from string, h *Host) *PartStats {
	core := c.running().core
	return core.parts.get(core.scope, partKey{from, h.Zone}, "zone", from, h.Zone)
}

// AltStats returns the counters under a name that a request has brought, nil if there are
// too many. The name is copied.
func (c *Cluster) AltStats(name string) *PartStats {
	core := c.running().core
	if len(name) > maxPartName {
		return nil
	}
	return core.parts.get(core.scope, partKey{b: name}, name)
}
