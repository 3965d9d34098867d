package stats

// CloseInto adds what the counters and histograms of sc and its descendants counted
// to those of the same dotted name in heir and its descendants, which count on as if
// nothing had been replaced, and closes sc. Gauges are levels and are not carried
// over. Structs are matched by type.
func (sc *Scope) CloseInto(heir *Scope) {
	st := sc.store
	st.mu.RLock()
	from, to := sc.tree(nil), heir.tree(nil)
	st.mu.RUnlock()
	sc.Close()
	heirs := make(map[string]*Scope, len(to))
	for _, s := range to {
		heirs[s.Name()] = s
	}
	for _, s := range from {
		if h := heirs[s.Name()]; h != nil && h != s {
			h.inherit(s)
		}
	}
}

func (sc *Scope) inherit(old *Scope) {
	bound, named := old.contents()
	mine, _ := sc.contents()
	for _, o := range bound {
		for _, m := range mine {
			if m.layout != o.layout {
				continue
			}
			for _, f := range o.layout.fields {
				inheritField(
					m.value.FieldByIndex(f.index).Addr().Interface(),
					o.value.FieldByIndex(f.index).Addr().Interface())
			}
			break
		}
	}
	for name, m := range named {
		switch {
		case m.Counter != nil:
			sc.Counter(name, m.Help).Add(m.Counter.Value())
		case m.Histogram != nil:
			sc.Histogram(name, m.Help).add(m.Histogram.Snapshot())
		}
	}
}

// inheritField adds the counts of old to heir, which has the same type.
func inheritField(heir, old any) {
	switch h := heir.(type) {
	case *Counter:
		h.Add(old.(*Counter).Value())
	case *Histogram:
		h.add(old.(*Histogram).Snapshot())
	case *ClassCounters:
		h.add(old.(*ClassCounters))
	case *CodeCounters:
		h.add(old.(*CodeCounters))
	}
}

func (c *ClassCounters) add(o *ClassCounters) {
	c.completed.Add(o.completed.Value())
	for i := range c.class {
		c.class[i].Add(o.class[i].Value())
	}
}

func (c *CodeCounters) add(o *CodeCounters) {
	c.ClassCounters.add(&o.ClassCounters)
	for code := 100; code <= 599; code++ {
		if n := o.Code(code); n != 0 {
			c.make(code).Add(n)
		}
	}
}
