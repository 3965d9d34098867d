package stats

import (
	"fmt"
	"reflect"
	"sync"
)

// Label is a tag of a metric, in Prometheus' sense.
type Label struct{ Name, Value string }

// Metric is one bound counter, gauge or histogram. Exactly one of the three
// pointers is set.
type Metric struct {
	Name      string  // Envoy's dotted name, values of labels included: "cluster.web.upstream_rq_total"
	Family    string  // the dotted name without the values of labels: "cluster.upstream_rq_total"
	Labels    []Label // in the order in which the scopes added them
	Help      string
	Counter   *Counter
	Gauge     *Gauge
	Histogram *Histogram
}

// Store holds every metric of a process. It is safe for concurrent use.
type Store struct {
	mu     sync.RWMutex
	scopes map[*Scope]struct{}
}

// NewStore returns an empty store.
func NewStore() *Store { return &Store{scopes: map[*Scope]struct{}{}} }

// Scope returns a scope with the dotted prefix, such as "cluster" or "http".
func (st *Store) Scope(prefix string) *Scope {
	return st.add(&Scope{store: st, name: prefix, family: prefix, byName: map[string]int{}})
}

func (st *Store) add(sc *Scope) *Scope {
	st.mu.Lock()
	defer st.mu.Unlock()
	st.scopes[sc] = struct{}{}
	return sc
}

// Each calls f with every metric, in no particular order.
func (st *Store) Each(f func(Metric)) {
	st.mu.RLock()
	scopes := make([]*Scope, 0, len(st.scopes))
	for sc := range st.scopes {
		scopes = append(scopes, sc)
	}
	st.mu.RUnlock()
	for _, sc := range scopes {
		for _, m := range sc.snapshot() {
			f(m)
		}
	}
}

// Scope is a prefix and labels under which metrics are bound. It is safe for
// concurrent use.
type Scope struct {
	store        *Store
	name, family string
	labels       []Label

	mu      sync.Mutex
	metrics []Metric
	byName  map[string]int
}

// Child returns a scope for "prefix.segment".
func (sc *Scope) Child(segment string) *Scope {
	return sc.store.add(&Scope{
		store: sc.store, name: join(sc.name, segment), family: join(sc.family, segment),
		labels: sc.labels, byName: map[string]int{},
	})
}

// Tag returns a scope whose dotted names contain value and whose Prometheus series
// carry it as a label instead: Scope("cluster").Tag("envoy_cluster_name", "web").
func (sc *Scope) Tag(label, value string) *Scope {
	labels := append(sc.labels[:len(sc.labels):len(sc.labels)], Label{label, value})
	return sc.store.add(&Scope{
		store: sc.store, name: join(sc.name, value), family: sc.family,
		labels: labels, byName: map[string]int{},
	})
}

func join(a, b string) string {
	if a == "" || b == "" {
		return a + b
	}
	return a + "." + b
}

// Close removes the scope's metrics from the store. Fields that are still being
// counted afterwards are counted in vain, which is harmless.
func (sc *Scope) Close() {
	sc.store.mu.Lock()
	defer sc.store.mu.Unlock()
	delete(sc.store.scopes, sc)
}

// Name returns the scope's dotted prefix.
func (sc *Scope) Name() string { return sc.name }

// Bind registers every Counter, Gauge and Histogram field of the struct that p
// points to under the name in its tag `stat`, with the text in its tag `help`.
// Embedded structs are bound too. A field without both tags, and a name that is
// bound already, are mistakes of the programmer and panic.
func (sc *Scope) Bind(p any) {
	sc.mu.Lock()
	defer sc.mu.Unlock()
	sc.bind(reflect.ValueOf(p).Elem())
}

func (sc *Scope) bind(v reflect.Value) {
	for i := range v.NumField() {
		f, fv := v.Type().Field(i), v.Field(i)
		if f.Anonymous && f.Type.Kind() == reflect.Struct {
			sc.bind(fv)
			continue
		}
		if !fv.CanAddr() || !f.IsExported() {
			continue
		}
		m := Metric{Name: f.Tag.Get("stat"), Help: f.Tag.Get("help")}
		switch x := fv.Addr().Interface().(type) {
		case *Counter:
			m.Counter = x
		case *Gauge:
			m.Gauge = x
		case *Histogram:
			m.Histogram = x
		default:
			continue
		}
		if m.Name == "" || m.Help == "" {
			panic(fmt.Sprintf("stats: %s.%s: needs the tags stat and help", v.Type(), f.Name))
		}
		if _, dup := sc.byName[m.Name]; dup {
			panic(fmt.Sprintf("stats: %s is bound twice in scope %q", m.Name, sc.name))
		}
		sc.put(m)
	}
}

func (sc *Scope) put(m Metric) {
	sc.byName[m.Name] = len(sc.metrics)
	m.Family = join(sc.family, m.Name)
	m.Name = join(sc.name, m.Name)
	m.Labels = sc.labels
	sc.metrics = append(sc.metrics, m)
}

// Counter returns the counter of that name, making it on first use. It is for
// names that only traffic reveals, such as a response code; not for the hot path.
func (sc *Scope) Counter(name, help string) *Counter {
	sc.mu.Lock()
	defer sc.mu.Unlock()
	if i, ok := sc.byName[name]; ok {
		return sc.metrics[i].Counter
	}
	c := new(Counter)
	sc.put(Metric{Name: name, Help: help, Counter: c})
	return c
}

func (sc *Scope) snapshot() []Metric {
	sc.mu.Lock()
	defer sc.mu.Unlock()
	return sc.metrics[:len(sc.metrics):len(sc.metrics)]
}
