package stats

import "testing"

func TestSharedCountsGoOn(t *testing.T) {
	type counters struct {
		N Counter `stat:"n" help:"things"`
	}
	st := NewStore()
	value := func() (v uint64, found bool) {
		st.Each(func(m Metric) {
			if m.Name == "tcp.web.n" {
				v, found = v+m.Counter.Value(), true
			}
		})
		return v, found
	}
	a, releaseA := Shared[counters](st, "tcp", "envoy_tcp_prefix", "web")
	a.N.Add(2)
	b, releaseB := Shared[counters](st, "tcp", "envoy_tcp_prefix", "web")
	b.N.Inc()
	releaseA()
	releaseA() // once
	if v, ok := value(); !ok || v != 3 {
		t.Errorf("after the first owner left: %d, %v; want 3, true", v, ok)
	}
	releaseB()
	if _, ok := value(); ok {
		t.Error("the metric is still there after its last owner left")
	}
	c, releaseC := Shared[counters](st, "tcp", "envoy_tcp_prefix", "web")
	defer releaseC()
	if c.N.Value() != 0 {
		t.Error("a new owner got old counts")
	}
}
