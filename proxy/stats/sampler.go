package stats

import (
	"slices"
	"strings"
)

// Sample is what the metrics of one name have come to when an interval has ended: what a
// sink is told.
type Sample struct {
	Name   string  // the dotted name, values of tags included
	Family string  // the dotted name without them
	Tags   []Label // under Envoy's names, "envoy.cluster_name"; by name, shared
	Kind   Kind    // not TextKind
	Value  uint64  // of a counter
	Delta  uint64  // of a counter: what was added since the Sampler was asked before
	Level  int64   // of a gauge

	// Of a histogram: all it has seen, what it has seen in the interval that has ended, and the
	// upper bounds of the buckets that it shows. They are shared.
	Total, Interval Distribution
	Bounds          []float64
}

// Quantiles are those that Envoy shows of histograms.
func Quantiles() [10]float64 { return shownQuantiles() }

// Sampler samples a store, and knows what counters were when it did so before. It is not
// safe for concurrent use.
type Sampler struct {
	st   *Store
	last map[*Counter]uint64
	next map[*Counter]uint64
	tags map[string]string // Envoy's names of labels
}

// NewSampler returns a Sampler that has seen nothing yet: the first deltas are all that was
// counted.
func NewSampler(st *Store) *Sampler {
	return &Sampler{st: st, last: map[*Counter]uint64{}, next: map[*Counter]uint64{}, tags: map[string]string{}}
}

// Sample returns what was ever used, counters and gauges before histograms, by name. The
// caller flushes the store before.
func (s *Sampler) Sample() []Sample {
	found := s.st.collect(&Query{UsedOnly: true, sampler: s})
	s.last, s.next = s.next, s.last
	clear(s.next)
	s.st.mu.RLock()
	fixed, names := s.st.fixed, s.st.tags
	s.st.mu.RUnlock()
	out := make([]Sample, 0, len(found))
	for i := range found {
		f := &found[i]
		if f.kind == TextKind {
			continue
		}
		one := Sample{Name: f.name, Family: f.family, Kind: f.kind, Total: f.total, Interval: f.last, Bounds: f.bounds}
		switch f.kind {
		case CounterKind:
			one.Value, one.Delta = f.value, f.delta
		case GaugeKind:
			one.Level = int64(f.value)
		}
		one.Tags = make([]Label, 0, len(f.labels)+len(fixed))
		for _, l := range f.labels {
			one.Tags = append(one.Tags, Label{s.tagName(names, l.Name), l.Value})
		}
		for _, l := range fixed {
			one.Tags = append(one.Tags, Label{s.tagName(names, l.Name), l.Value})
		}
		slices.SortStableFunc(one.Tags, func(a, b Label) int { return strings.Compare(a.Name, b.Name) })
		out = append(out, one)
	}
	return out
}

// delta is what was added to a counter since the last time. One that was reset begins anew.
func (s *Sampler) delta(c *Counter) uint64 {
	now := c.Value()
	before := s.last[c]
	s.next[c] = now
	if now < before {
		return now
	}
	return now - before
}

// tagName is the name of a tag as Envoy has it; labels have that of Prometheus.
func (s *Sampler) tagName(t *Tags, label string) string {
	if name, ok := s.tags[label]; ok {
		return name
	}
	name := label
	if rest, ok := strings.CutPrefix(label, "envoy_"); ok {
		name = "envoy." + rest
	}
	if t != nil && t.Names[label] != "" {
		name = t.Names[label]
	}
	s.tags[label] = name
	return name
}
