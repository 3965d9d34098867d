package stats

// A source is metrics that no scope holds, because there are too many of them or they
// come and go too often: it is asked for them each time that somebody reads.
type source func(emit func(Metric))

// AddSource registers metrics that are made up when they are read. Their Name, Family,
// Labels and pointers are what the source says: tags take nothing out of their names,
// the matcher does not leave them out, and they count as used, as in Envoy. They are
// neither flushed nor reset: whoever counts in them does that. f must not read the
// store.
func (st *Store) AddSource(f func(emit func(Metric))) {
	st.mu.Lock()
	defer st.mu.Unlock()
	st.sources = append(st.sources, f)
}

// eachShown calls f with every metric that is written out. used says that it is shown
// even if nothing was counted in it.
func (st *Store) eachShown(f func(m Metric, used bool)) {
	st.Each(func(m Metric) { f(m, false) })
	st.mu.RLock()
	sources := st.sources
	st.mu.RUnlock()
	for _, s := range sources {
		s(func(m Metric) { f(m, true) })
	}
}
