package stats

import (
	"fmt"
	"runtime"
	"slices"
	"strings"
	"testing"
	"unsafe"
)

// clusterStats is shaped as the statistics of a cluster are.
type clusterStats struct {
	Total     Counter      `stat:"upstream_rq_total" help:"Requests."`
	Active    Gauge        `stat:"upstream_cx_active" help:"Connections."`
	Time      Histogram    `stat:"upstream_rq_time" help:"Milliseconds."`
	Responses CodeCounters `stat:"upstream_rq" help:"Responses."`
	breakerStats
	//lint:ignore U1000 shows that unexported fields are left alone
	private Counter
}

type breakerStats struct {
	Open Gauge `stat:"cx_open" help:"Whether the breaker is open."`
}

func textOf(st *Store, q Query) string {
	var sb strings.Builder
	if err := st.WriteText(&sb, q); err != nil {
		panic(err)
	}
	return sb.String()
}

func TestNamesAndClose(t *testing.T) {
	st := NewStore()
	web := st.Scope("cluster").Tag("envoy_cluster_name", "web")
	var m clusterStats
	web.Bind(&m)
	high := web.Child("circuit_breakers").Child("high")
	high.Gauge("rq_open", "Whether the breaker is open.").Set(1)
	m.Total.Add(3)
	m.Responses.Count(204)
	want := `cluster.web.circuit_breakers.high.rq_open: 1
cluster.web.cx_open: 0
cluster.web.upstream_cx_active: 0
cluster.web.upstream_rq_204: 1
cluster.web.upstream_rq_2xx: 1
cluster.web.upstream_rq_completed: 1
cluster.web.upstream_rq_total: 3
cluster.web.upstream_rq_time: No recorded values
`
	if got := textOf(st, Query{}); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if high.Name() != "cluster.web.circuit_breakers.high" {
		t.Errorf("name is %q", high.Name())
	}
	web.Close()
	web.Close()
	if got := textOf(st, Query{}); got != "" {
		t.Errorf("left after Close: %s", got)
	}
	high.Close() // its parent is gone already
}

func TestCloseKeepsSiblings(t *testing.T) {
	for closed := range 3 {
		st := NewStore()
		var scopes []*Scope
		for i := range 3 {
			sc := st.Scope("cluster").Tag("envoy_cluster_name", fmt.Sprint(i))
			sc.Counter("n", "Count.")
			scopes = append(scopes, sc)
		}
		scopes[closed].Close()
		if got := textOf(st, Query{}); strings.Count(got, "\n") != 2 || strings.Contains(got, fmt.Sprintf("cluster.%d.", closed)) {
			t.Errorf("closed %d: left %q", closed, got)
		}
	}
}

func TestSameNameIsSummed(t *testing.T) {
	st := NewStore()
	var a, b clusterStats
	old := st.Scope("cluster").Tag("envoy_cluster_name", "web")
	old.Bind(&a)
	a.Total.Add(5)
	a.Active.Set(2)
	a.Time.Record(10)
	a.Responses.Count(200)
	a.Responses.Count(404)
	old.Child("external").Counter("upstream_rq_200", "Responses.").Add(7)
	next := st.Scope("cluster").Tag("envoy_cluster_name", "web")
	next.Bind(&b)
	b.Total.Add(6)
	b.Active.Set(1)
	b.Time.Record(30)
	b.Responses.Count(200)
	next.Child("external").Counter("upstream_rq_200", "Responses.").Inc()
	want := `cluster.web.cx_open: 0
cluster.web.external.upstream_rq_200: 8
cluster.web.upstream_cx_active: 3
cluster.web.upstream_rq_200: 2
cluster.web.upstream_rq_2xx: 2
cluster.web.upstream_rq_404: 1
cluster.web.upstream_rq_4xx: 1
cluster.web.upstream_rq_completed: 3
cluster.web.upstream_rq_total: 11
`
	q := Query{Filter: nil}
	if got := textOf(st, q); !strings.HasPrefix(got, want) {
		t.Errorf("while both live\n%s\nwant\n%s", got, want)
	}
	old.CloseInto(next)
	want = strings.Replace(want, "cx_active: 3", "cx_active: 1", 1)
	if got := textOf(st, q); !strings.HasPrefix(got, want) {
		t.Errorf("after CloseInto\n%s\nwant\n%s", got, want)
	}
	if n, sum := b.Time.Count(), b.Time.Sum(); n != 2 || sum != 40 {
		t.Errorf("the heir's histogram has %d values of sum %d", n, sum)
	}
}

func TestMatcherResetAndEach(t *testing.T) {
	st := NewStore()
	sc := st.Scope("server")
	sc.Counter("a", "A.").Add(2)
	sc.Gauge("b", "B.").Set(2)
	st.SetMatcher(func(name string) bool { return name != "server.b" })
	if got := textOf(st, Query{}); got != "server.a: 2\n" {
		t.Errorf("got %q", got)
	}
	st.SetMatcher(nil)
	st.ResetCounters()
	if got := textOf(st, Query{}); got != "server.a: 0\nserver.b: 2\n" {
		t.Errorf("after reset: %q", got)
	}
	var names []string
	st.Each(func(m Metric) { names = append(names, m.Name+" "+m.Help) })
	slices.Sort(names)
	if want := []string{"server.a A.", "server.b B."}; !slices.Equal(names, want) {
		t.Errorf("Each: %q", names)
	}
}

// What never happens shows as 0 until a field counts it.
func TestNever(t *testing.T) {
	type never struct {
		A Never      `stat:"a" help:"0."`
		B NeverGauge `stat:"b" help:"0."`
	}
	var s struct {
		never
		Real Counter `stat:"a" help:"Counted."`
	}
	st := NewStore()
	st.Scope("x").Bind(&s)
	s.Real.Add(2)
	if got := textOf(st, Query{}); got != "x.a: 2\nx.b: 0\n" {
		t.Errorf("got %q", got)
	}
	if n := unsafe.Sizeof(s); n != unsafe.Sizeof(Counter{}) {
		t.Errorf("%d bytes", n)
	}
}

func TestMistakesPanic(t *testing.T) {
	type noHelp struct {
		C Counter `stat:"c"`
	}
	type twice struct {
		A Counter `stat:"c" help:"C."`
		B Gauge   `stat:"c" help:"C."`
	}
	st := NewStore()
	taken := st.Scope("taken")
	taken.Counter("cx_open", "Taken.")
	for name, f := range map[string]func(){
		"no help":            func() { st.Scope("x").Bind(&noHelp{}) },
		"name twice":         func() { st.Scope("x").Bind(&twice{}) },
		"bound twice":        func() { sc := st.Scope("x"); sc.Bind(&clusterStats{}); sc.Bind(&clusterStats{}) },
		"name is taken":      func() { taken.Bind(&clusterStats{}) },
		"name of a struct":   func() { sc := st.Scope("x"); sc.Bind(&clusterStats{}); sc.Counter("cx_open", "Mine.") },
		"other kind by name": func() { taken.Gauge("cx_open", "Not a counter.") },
	} {
		t.Run(name, func(t *testing.T) {
			defer func() {
				if recover() == nil {
					t.Error("no panic")
				}
			}()
			f()
		})
	}
}

// An unused cluster must cost little: there may be ten thousand.
func TestMemoryPerScope(t *testing.T) {
	if raceEnabled {
		t.Skip("sizes differ under -race")
	}
	const n = 10000
	type quiet struct {
		A, B, C, D breakerCounters
		clusterStats
	}
	st := NewStore()
	root := st.Scope("cluster")
	keep := make([]*quiet, 0, n)
	names := make([]string, n)
	for i := range names {
		names[i] = fmt.Sprintf("outbound|80||svc-%d.ns.svc.cluster.local", i)
	}
	before := heap()
	for i := range n {
		m := new(quiet)
		sc := root.Tag("envoy_cluster_name", names[i])
		sc.Bind(m)
		keep = append(keep, m)
	}
	per := (heap() - before) / n
	runtime.KeepAlive(keep)
	runtime.KeepAlive(st)
	if per > 800 {
		t.Errorf("%d bytes for each unused scope with its struct, want at most 800", per)
	}
}

//lint:ignore U1000 only its size matters
type breakerCounters struct{ x [4]Counter }

func heap() uint64 {
	runtime.GC()
	var ms runtime.MemStats
	runtime.ReadMemStats(&ms)
	return ms.HeapAlloc
}
