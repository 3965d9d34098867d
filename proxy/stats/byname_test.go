package stats_test

import (
	"strings"
	"testing"

	"github.com/mecha-mesh/mecha/proxy/stats"
)

// TestByName: a name has one struct, which goes with the set.
func TestByName(t *testing.T) {
	type counters struct {
		N stats.Counter `stat:"n" help:"x"`
	}
	st := stats.NewStore()
	b := stats.NewByName(func(name string) (*counters, func()) { return stats.Shared[counters](st, name, "", "") })
	first := b.Of("a")
	first.N.Inc()
	if b.Of("a") != first || b.Of("b") == first {
		t.Error("names are mixed up")
	}
	text := func() string {
		var sb strings.Builder
		if err := st.WriteText(&sb, stats.Query{}); err != nil {
			t.Fatal(err)
		}
		return sb.String()
	}
	if got := text(); !strings.Contains(got, "a.n: 1") || !strings.Contains(got, "b.n: 0") {
		t.Errorf("got %q", got)
	}
	b.Close()
	if got := text(); strings.Contains(got, ".n:") {
		t.Errorf("after Close: %q", got)
	}
	if n := testing.AllocsPerRun(100, func() { b.Of("a") }); n > 0 {
		t.Errorf("%v allocations", n)
	}
}
