package stats

import (
	"slices"
	"testing"
)

func TestEvict(t *testing.T) {
	st := NewStore()
	var gone []string
	part := func(name string) (*Counter, *Gauge) {
		sc := st.Scope("cluster").Child(name)
		sc.Evictable(func() { gone = append(gone, name) })
		inner := sc.Child("inner")
		return inner.Counter("total", "x"), inner.Gauge("active", "x")
	}
	used, _ := part("used")
	idle, _ := part("idle")
	_, held := part("held")
	idle.Inc()
	held.Inc()
	stays := st.Scope("cluster").Counter("stays", "x")
	st.Evict()
	if gone != nil {
		t.Errorf("gone at once: %v", gone)
	}
	used.Inc()
	st.Evict()
	if !slices.Equal(gone, []string{"idle"}) {
		t.Errorf("gone %v", gone)
	}
	held.Dec()
	used.Inc()
	st.Evict()
	if !slices.Equal(gone, []string{"idle", "held"}) {
		t.Errorf("gone %v", gone)
	}
	stays.Inc()
	var names []string
	st.Each(func(m Metric) { names = append(names, m.Name) })
	slices.Sort(names)
	if want := []string{"cluster.stays", "cluster.used.inner.active", "cluster.used.inner.total"}; !slices.Equal(names, want) {
		t.Errorf("left %v, want %v", names, want)
	}
	outer := st.Scope("closed")
	outer.Child("x").Evictable(func() { t.Error("told of a scope that was closed with another one") })
	outer.Close()
	st.Evict()
	st.Evict()
	if n := len(st.evictables); n != 0 {
		t.Errorf("%d scopes are held", n)
	}
}
