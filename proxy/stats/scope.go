package stats

import (
	"fmt"
	"maps"
	"reflect"
	"sync"
)

// Label is a tag of a metric, in Prometheus' sense.
type Label struct{ Name, Value string }

// Path returns the labels of parts of a dotted name, without those that are empty.
func Path(parts ...string) (path []Label) {
	for _, p := range parts {
		if p != "" {
			path = append(path, Label{Value: p})
		}
	}
	return path
}

// Metric is one bound counter, gauge, histogram or text. Exactly one of the four
// pointers is set.
type Metric struct {
	Name      string  // Envoy's dotted name, values of labels included: "cluster.web.upstream_rq_total"
	Family    string  // the dotted name without the values of labels: "cluster.upstream_rq_total"
	Labels    []Label // in the order in which the scopes added them; shared, not to be changed
	Help      string
	Counter   *Counter
	Gauge     *Gauge
	Histogram *Histogram
	Text      *TextReadout

	seq  uint64 // of the scope
	cuts []span // what of Name is not in Family; shared, not to be changed
}

// Store holds every metric of a process. It is safe for concurrent use.
type Store struct {
	mu         sync.RWMutex // guards the links between scopes, layouts, and what follows
	root       Scope
	layouts    map[reflect.Type]*layout
	fixed      []Label
	tags       *Tags
	bounds     bucketRules
	keep       func(name string) bool
	flush      sync.Mutex
	seq        uint64 // of the newest scope
	most       int    // see SetMaxSeries
	folded     Gauge
	shared     sharedBlocks
	before     []func() // see BeforeRead
	sources    []source
	evictables map[*Scope]*evictable
}

// NewStore returns an empty store.
func NewStore() *Store {
	st := &Store{layouts: map[reflect.Type]*layout{}}
	st.root.store = st
	return st
}

// Scope returns a scope with the dotted prefix, such as "cluster" or "http".
func (st *Store) Scope(prefix string) *Scope { return st.root.Child(prefix) }

// SetFixedLabels gives every series of Prometheus these labels (--stats-tag,
// stats_config.stats_tags with fixed_value). The slice is moved to the store.
func (st *Store) SetFixedLabels(labels []Label) {
	st.mu.Lock()
	defer st.mu.Unlock()
	st.fixed = labels
}

// SetTags says which labels series carry. It is for the start of the process.
func (st *Store) SetTags(t *Tags) {
	st.mu.Lock()
	defer st.mu.Unlock()
	st.tags = t.prepared()
}

// SetMatcher leaves out every metric for whose dotted name keep answers false
// (stats_config.stats_matcher). A nil keep leaves out none. What is bound while a
// matcher is set takes no memory beyond its struct when it is left out.
func (st *Store) SetMatcher(keep func(name string) bool) {
	st.mu.Lock()
	defer st.mu.Unlock()
	st.keep = keep
}

// BeforeRead registers f to be called each time before metrics are read: it brings
// up to date what is counted elsewhere. f must not read the store.
func (st *Store) BeforeRead(f func()) {
	st.mu.Lock()
	defer st.mu.Unlock()
	st.before = append(st.before, f)
}

// Each calls f with every metric that is not hidden, in no particular order. Several
// may have one name: two structs bound under it, as when a cluster is replaced while
// the old one drains. What is written out is their sum.
func (st *Store) Each(f func(Metric)) {
	scopes := st.scopes()
	st.mu.RLock()
	keep, tags := st.keep, st.tags
	st.mu.RUnlock()
	for _, sc := range scopes {
		sc.each(tags, func(m Metric) {
			if keep == nil || keep(m.Name) {
				tags.extract(&m)
				m.Family = m.family()
				f(m)
			}
		})
	}
}

// Flush ends the interval of every histogram (stats_flush_interval). The server
// calls it from a timer; without it histograms show no interval values. It puts no
// names together: what the matcher leaves out records nothing.
func (st *Store) Flush() {
	st.flush.Lock()
	defer st.flush.Unlock()
	for _, sc := range st.scopes() {
		sc.flush()
	}
}

// scopes returns all scopes, once what is counted elsewhere is up to date.
func (st *Store) scopes() []*Scope {
	st.mu.RLock()
	before := st.before
	st.mu.RUnlock()
	for _, f := range before {
		f()
	}
	st.mu.RLock()
	defer st.mu.RUnlock()
	return st.root.tree(nil)
}

// ResetCounters sets every counter back to zero (admin /reset_counters).
func (st *Store) ResetCounters() {
	st.Each(func(m Metric) {
		if m.Counter != nil {
			m.Counter.Reset()
		}
	})
}

// Scope is a prefix and labels under which metrics are bound. It is safe for
// concurrent use. A scope is small; its names are put together when they are read.
type Scope struct {
	store               *Store
	parent, first       *Scope // first child
	prev, next          *Scope // siblings
	segment, labelNamed string // labelNamed is "" unless segment is the value of a label
	seq                 uint64 // grows from scope to scope

	mu    sync.Mutex
	bound []binding
	named map[string]Metric // by Counter, Gauge, ...; relative names
}

// Child returns a scope for "prefix.segment".
func (sc *Scope) Child(segment string) *Scope { return sc.add(segment, "") }

// Tag returns a scope whose dotted names contain value and whose Prometheus series
// carry it as a label instead: Scope("cluster").Tag("envoy_cluster_name", "web").
func (sc *Scope) Tag(label, value string) *Scope { return sc.add(value, label) }

func (sc *Scope) add(segment, label string) *Scope {
	child := &Scope{store: sc.store, parent: sc, segment: segment, labelNamed: label}
	sc.store.mu.Lock()
	defer sc.store.mu.Unlock()
	sc.store.seq++
	child.seq = sc.store.seq
	child.next = sc.first
	if sc.first != nil {
		sc.first.prev = child
	}
	sc.first = child
	return child
}

// tree appends sc and its descendants. The store's lock is held.
func (sc *Scope) tree(dst []*Scope) []*Scope {
	dst = append(dst, sc)
	for c := sc.first; c != nil; c = c.next {
		dst = c.tree(dst)
	}
	return dst
}

func join(a, b string) string {
	if a == "" || b == "" {
		return a + b
	}
	return a + "." + b
}

// Close removes the scope's metrics, and those of the scopes made from it, from the
// store. Fields that are still being counted afterwards are counted in vain, which
// is harmless. Closing twice is harmless too.
func (sc *Scope) Close() {
	sc.store.mu.Lock()
	defer sc.store.mu.Unlock()
	if sc.parent == nil {
		return
	}
	if len(sc.store.evictables) > 0 {
		for _, s := range sc.tree(nil) {
			delete(sc.store.evictables, s)
		}
	}
	if sc.next != nil {
		sc.next.prev = sc.prev
	}
	if sc.prev != nil {
		sc.prev.next = sc.next
	} else if sc.parent.first == sc {
		sc.parent.first = sc.next
	}
	sc.prev, sc.next = nil, nil
}

// Name returns the scope's dotted prefix.
func (sc *Scope) Name() string { return sc.metric(nil).Name }

// metric returns a Metric with what the scope gives to each of its metrics.
func (sc *Scope) metric(t *Tags) Metric {
	if sc.parent == nil {
		return Metric{}
	}
	m := sc.parent.metric(t)
	start := len(m.Name)
	m.Name = join(m.Name, sc.segment)
	if sc.labelNamed != "" && !t.hides(sc.labelNamed) {
		m.cut(start, len(m.Name))
		m.Labels = with(m.Labels, Label{sc.labelNamed, sc.segment})
	}
	return m
}

// Bind registers every Counter, Gauge, Histogram, TextReadout, ClassCounters,
// CodeCounters and Never field of the struct that p points to under the name in its tag
// `stat`, with the text in its tag `help`. Embedded structs are bound too. The struct
// stays reachable until the scope is closed. A field without both tags, and a name
// that is bound already, are mistakes of the programmer and panic.
func (sc *Scope) Bind(p any) {
	v := reflect.ValueOf(p).Elem()
	l := sc.store.layout(v.Type())
	sc.mu.Lock()
	defer sc.mu.Unlock()
	for name := range l.names {
		if sc.taken(name) {
			panic(fmt.Sprintf("stats: %s is bound twice in scope %q", name, sc.Name()))
		}
	}
	b := binding{v, l}
	if sc.store.wanted(sc, &b) {
		sc.bound = append(sc.bound, b)
	}
}

// wanted reports whether the matcher wants any of a struct's metrics. Histograms that
// it does not want record nothing from here on.
func (st *Store) wanted(sc *Scope, b *binding) bool {
	st.mu.RLock()
	keep := st.keep
	st.mu.RUnlock()
	if keep == nil {
		return true
	}
	name, some := sc.Name(), false
	for _, f := range b.layout.fields {
		switch x := b.value.FieldByIndex(f.index).Addr().Interface().(type) {
		case *ClassCounters, *CodeCounters: // their names come with traffic
			some = true
		case *Histogram:
			if keep(join(name, f.name)) {
				some = true
			} else {
				x.silence()
			}
		default:
			some = some || keep(join(name, f.name))
		}
	}
	return some
}

func (st *Store) layout(t reflect.Type) *layout {
	st.mu.RLock()
	l := st.layouts[t]
	st.mu.RUnlock()
	if l != nil {
		return l
	}
	l = layoutOf(t)
	st.mu.Lock()
	defer st.mu.Unlock()
	st.layouts[t] = l
	return l
}

// taken reports whether a struct has that name already.
func (sc *Scope) taken(name string) bool {
	if _, ok := sc.named[name]; ok {
		return true
	}
	for i := range sc.bound {
		if _, ok := sc.bound[i].layout.names[name]; ok {
			return true
		}
	}
	return false
}

// Counter returns the counter of that name, making it on first use. It is for
// names that only configuration or traffic reveals; not for the hot path. What the
// matcher leaves out is made anew each time.
func (sc *Scope) Counter(name, help string) *Counter {
	return sc.get(name, func() Metric { return Metric{Help: help, Counter: new(Counter)} }).Counter
}

// Gauge is like Counter.
func (sc *Scope) Gauge(name, help string) *Gauge {
	return sc.get(name, func() Metric { return Metric{Help: help, Gauge: new(Gauge)} }).Gauge
}

// Histogram is like Counter.
func (sc *Scope) Histogram(name, help string) *Histogram {
	return sc.get(name, func() Metric { return Metric{Help: help, Histogram: new(Histogram)} }).Histogram
}

// Text is like Counter.
func (sc *Scope) Text(name, help string) *TextReadout {
	return sc.get(name, func() Metric { return Metric{Help: help, Text: new(TextReadout)} }).Text
}

func (sc *Scope) get(name string, fresh func() Metric) Metric {
	sc.mu.Lock()
	defer sc.mu.Unlock()
	made := fresh()
	sc.store.mu.RLock()
	keep := sc.store.keep
	sc.store.mu.RUnlock()
	if keep != nil && !keep(join(sc.Name(), name)) {
		if made.Histogram != nil {
			made.Histogram.silence()
		}
		return made // counts for nobody
	}
	if m, ok := sc.named[name]; ok && m.kind() == made.kind() {
		return m
	}
	if sc.taken(name) {
		panic(fmt.Sprintf("stats: %s is bound twice in scope %q", name, sc.Name()))
	}
	if sc.named == nil {
		sc.named = map[string]Metric{}
	}
	sc.named[name] = made
	return made
}

// contents returns what is bound to sc: a view of the structs and a copy of the rest.
func (sc *Scope) contents() ([]binding, map[string]Metric) {
	sc.mu.Lock()
	defer sc.mu.Unlock()
	return sc.bound[:len(sc.bound):len(sc.bound)], maps.Clone(sc.named)
}

// each calls f with the metrics of sc itself.
func (sc *Scope) each(t *Tags, f func(Metric)) {
	bound, named := sc.contents()
	if len(bound)+len(named) == 0 {
		return
	}
	base := sc.metric(t)
	base.seq = sc.seq
	for i := range bound {
		bound[i].each(base, t, f)
	}
	for name, m := range named {
		m.Name, m.Labels, m.cuts = join(base.Name, name), base.Labels, base.cuts
		m.seq = base.seq
		f(m)
	}
}

// flush ends the interval of the histograms of sc itself.
func (sc *Scope) flush() {
	sc.mu.Lock()
	defer sc.mu.Unlock()
	for i := range sc.bound {
		b := &sc.bound[i]
		for _, f := range b.layout.histograms {
			b.value.FieldByIndex(f).Addr().Interface().(*Histogram).Flush()
		}
	}
	for _, m := range sc.named {
		if m.Histogram != nil {
			m.Histogram.Flush()
		}
	}
}
