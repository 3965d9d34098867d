package stats

// evictable is what is known of a scope that may be forgotten.
type evictable struct {
	gone   func()
	seen   bool
	counts uint64 // of everything in it, when somebody last looked
}

// Evictable says that a scope whose names came with requests may be forgotten: Evict
// closes it when nothing in it has changed since the Evict before. gone is called first,
// without a lock of the store; whoever still counts in it counts in vain.
func (sc *Scope) Evictable(gone func()) {
	st := sc.store
	st.mu.Lock()
	defer st.mu.Unlock()
	if st.evictables == nil {
		st.evictables = map[*Scope]*evictable{}
	}
	st.evictables[sc] = &evictable{gone: gone}
}

// Evict forgets evictable scopes that were not used since it was last called
// (stats_eviction_interval).
func (st *Store) Evict() {
	type one struct {
		sc *Scope
		e  *evictable
	}
	var all, idle []one
	st.mu.RLock()
	for sc, e := range st.evictables {
		all = append(all, one{sc, e})
	}
	st.mu.RUnlock()
	for _, o := range all {
		st.mu.RLock()
		scopes := o.sc.tree(nil)
		st.mu.RUnlock()
		counts, busy := uint64(0), false
		for _, sc := range scopes {
			sc.each(nil, func(m Metric) {
				switch {
				case m.Counter != nil:
					counts += m.Counter.Value()
				case m.Histogram != nil:
					counts += m.Histogram.Snapshot().Count
				case m.Gauge != nil:
					busy = busy || m.Gauge.Value() != 0
				}
			})
		}
		if o.e.seen && !busy && counts == o.e.counts {
			idle = append(idle, o)
		}
		o.e.seen, o.e.counts = true, counts
	}
	for _, o := range idle {
		o.e.gone()
		o.sc.Close()
	}
}
