package stats

import (
	"cmp"
	"math"
	"regexp"
	"slices"
	"strconv"
)

// Kind is what a metric is.
type Kind uint8

// The kinds, and none for "all of them".
const (
	AnyKind Kind = iota
	CounterKind
	GaugeKind
	TextKind
	HistogramKind
)

func (m *Metric) kind() Kind {
	switch {
	case m.Counter != nil:
		return CounterKind
	case m.Gauge != nil:
		return GaugeKind
	case m.Text != nil:
		return TextKind
	}
	return HistogramKind
}

// BucketMode is how histograms are written (/stats?histogram_buckets=).
type BucketMode uint8

// The modes. NoBuckets is quantiles in text and JSON and cumulative buckets for
// Prometheus, where SummaryBuckets asks for quantiles.
const (
	NoBuckets BucketMode = iota
	SummaryBuckets
	CumulativeBuckets
	DisjointBuckets
	DetailedBuckets
	NativeBuckets // of WritePrometheusProto
)

// Query says which metrics to write, and how. The zero value is all of them.
type Query struct {
	UsedOnly     bool           // only what was ever written
	Filter       *regexp.Regexp // searched in the dotted name; nil matches all
	Invert       bool           // what Filter does not find
	Kind         Kind
	Buckets      BucketMode
	TextReadouts bool // WritePrometheus: texts as gauges of value 0

	sampler *Sampler // is asked what was added to counters; nil: that does not matter
}

// series is the sum of all metrics of one name.
type series struct {
	name, family string
	labels       []Label
	kind         Kind
	seq          uint64 // of the oldest scope
	value        uint64 // counters; gauges as int64
	delta        uint64 // counters, for a Sampler
	text         string
	used         bool
	total, last  Distribution // of a histogram: ever, and in the last interval
	bounds       []float64    // of a histogram: the upper bounds of the buckets that are shown
}

func (s *series) add(m *Metric) {
	switch s.kind {
	case CounterKind:
		s.value += m.Counter.Value()
		s.used = s.value != 0
	case GaugeKind:
		s.value = uint64(int64(s.value) + m.Gauge.Value())
		s.used = s.used || m.Gauge.Used()
	case TextKind:
		if m.Text.Used() {
			s.text, s.used = m.Text.Value(), true
		}
	case HistogramKind:
		s.total.Merge(m.Histogram.Snapshot())
		s.last.Merge(m.Histogram.Interval())
		s.used = s.total.Count != 0
	}
}

// appendValue appends the value of a counter or gauge.
func (s *series) appendValue(dst []byte) []byte {
	if s.kind == GaugeKind {
		return strconv.AppendInt(dst, int64(s.value), 10)
	}
	return strconv.AppendUint(dst, s.value, 10)
}

// select returns the series that the query asks for: texts, then counters and
// gauges, then histograms, each by name.
func (st *Store) collect(q *Query) []series {
	type key struct {
		name string
		kind Kind
	}
	var found []series
	at := map[key]int{}
	st.mu.RLock()
	bounds := st.bounds
	st.mu.RUnlock()
	st.eachShown(func(m Metric, used bool) {
		kind := m.kind()
		if q.Kind != AnyKind && q.Kind != kind || q.Filter != nil && q.Filter.MatchString(m.Name) == q.Invert {
			return
		}
		i, ok := at[key{m.Name, kind}]
		if !ok {
			i = len(found)
			at[key{m.Name, kind}] = i
			one := series{name: m.Name, family: m.Family, labels: m.Labels, kind: kind, seq: m.seq}
			if kind == HistogramKind {
				one.bounds = bounds.of(m.Name)
			}
			found = append(found, one)
		}
		found[i].seq = min(found[i].seq, m.seq)
		found[i].add(&m)
		if q.sampler != nil && kind == CounterKind {
			found[i].delta += q.sampler.delta(m.Counter)
		}
		found[i].used = found[i].used || used
	})
	if q.UsedOnly {
		found = slices.DeleteFunc(found, func(s series) bool { return !s.used })
	}
	slices.SortFunc(found, func(a, b series) int {
		return cmp.Or(cmp.Compare(textOrder(a.kind), textOrder(b.kind)), cmp.Compare(a.name, b.name), cmp.Compare(a.kind, b.kind))
	})
	return found
}

func textOrder(k Kind) int {
	switch k {
	case TextKind:
		return 0
	case HistogramKind:
		return 2
	}
	return 1
}

// The quantiles that Envoy shows.
func shownQuantiles() [10]float64 {
	return [...]float64{0, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 0.995, 0.999, 1}
}

// appendFloat appends the shortest decimal form of f, "nan" for none.
func appendFloat(dst []byte, f float64) []byte {
	if math.IsNaN(f) {
		return append(dst, "nan"...)
	}
	return strconv.AppendFloat(dst, f, 'f', -1, 64)
}
