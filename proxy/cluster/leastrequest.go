package cluster

import "math"

// loadedWeight is a host's weight, less for each request that it is busy with.
func loadedWeight(h *Host, bias float64) float64 {
	active := float64(h.ep.stats.RqActive.Value() + 1)
	switch bias {
	case 0:
		return float64(h.weight())
	case 1:
		return float64(h.weight()) / active
	}
	return float64(h.weight()) / math.Pow(active, bias)
}

// leastRequest picks the least busy of a few random hosts.
type leastRequest struct {
	hosts   []*Host
	choices int
	rnd     func() uint64
}

func (l *leastRequest) pick() *Host {
	var best *Host
	for range l.choices {
		h := l.hosts[l.rnd()%uint64(len(l.hosts))]
		if best == nil || h.ep.stats.RqActive.Value() < best.ep.stats.RqActive.Value() {
			best = h
		}
	}
	return best
}

// leastOfAll picks the least busy host, any of them if there are several.
type leastOfAll struct {
	hosts []*Host
	rnd   func() uint64
}

func (l *leastOfAll) pick() *Host {
	var best *Host
	least, equal := int64(math.MaxInt64), uint64(0)
	for _, h := range l.hosts {
		switch n := h.ep.stats.RqActive.Value(); {
		case n < least:
			best, least, equal = h, n, 1
		case n == least:
			if equal++; l.rnd()%equal == 0 {
				best = h
			}
		}
	}
	return best
}
