package breaker

import (
	"maps"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mecha-mesh/mecha/proxy/filter"
)

// breakers are the machines of a filter: one for each name of a route, or cluster where a
// route has no name, and one for each configuration of a route.
type breakers struct {
	*counters
	own  *Limits
	slot filter.Slot

	mu    sync.Mutex
	named atomic.Pointer[map[string]*machine]
	ofOwn atomic.Pointer[map[*Limits]*machine]
}

// maxBreakers bounds how many there are: the names of clusters may come with requests.
const maxBreakers = 4096

// toCluster is a route that leads to a cluster.
type toCluster interface {
	ClusterName(s *filter.Stream) string
}

// of returns the machine of a stream; nil if it has none.
func (b *breakers) of(s *filter.Stream, now time.Time) *machine {
	if s.Route == nil {
		return nil
	}
	if l, ok := filter.Override[*Limits](s, b.slot); ok {
		return find(b, &b.ofOwn, l, l, now, func(l *Limits) *Limits { return l })
	}
	name := s.Route.Name()
	if name == "" {
		if r, ok := s.Route.(toCluster); ok {
			name = r.ClusterName(s)
		}
	}
	return find(b, &b.named, name, b.own, now, strings.Clone)
}

// find returns the machine under a key, a new one if there is none and not too many. keep
// makes a key that may be kept.
func find[K comparable](b *breakers, in *atomic.Pointer[map[K]*machine], key K, l *Limits, now time.Time, keep func(K) K) *machine {
	if old := in.Load(); old != nil {
		if m := (*old)[key]; m != nil {
			return m
		}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	next := map[K]*machine{}
	if old := in.Load(); old != nil {
		if m := (*old)[key]; m != nil {
			return m
		}
		if len(*old) >= maxBreakers {
			b.Overflow.Inc()
			return nil
		}
		maps.Copy(next, *old)
	}
	m := newMachine(l, b.counters, now)
	next[keep(key)] = m
	in.Store(&next)
	return m
}

// retire takes all of them out of the gauges.
func (b *breakers) retire() {
	if named := b.named.Load(); named != nil {
		for _, m := range *named {
			m.retire()
		}
	}
	if own := b.ofOwn.Load(); own != nil {
		for _, m := range *own {
			m.retire()
		}
	}
}
