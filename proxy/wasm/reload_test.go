package wasm_test

import (
	"log/slog"
	"runtime"
	"strconv"
	"testing"
	"time"

	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/stats"
	"github.com/mecha-mesh/mecha/proxy/wasm"
)

// reloads is how often a plugin is replaced.
const reloads = 100

// TestReloads: a plugin is replaced by one with another configuration, again and again, while streams come: each
// has a guest, and nothing of those that were replaced is left.
func TestReloads(t *testing.T) {
	store, shares := stats.NewStore(), filter.NewShares()
	text := code(t, probe)
	start := func(n int) *bench {
		g := &bench{t: t, store: store}
		env := filter.Env{Stats: store, Shares: shares, Log: slog.New(slog.DiscardHandler), Retire: func(f func()) { g.retire = append(g.retire, f) }}
		var err error
		g.Plugin, err = wasm.Open(&wasm.Config{Name: "probe", VM: wasm.VMConfig{Runtime: "envoy.wasm.runtime.v8", Configuration: strconv.Itoa(n), Code: text}}, env)
		if err != nil {
			t.Fatal(err)
		}
		return g
	}
	end := func(g *bench) {
		for _, f := range g.retire {
			f()
		}
	}
	now := start(0)
	for n := 1; n <= reloads; n++ {
		next := start(n)
		done := make(chan error, 4)
		for i := range cap(done) {
			g := now // streams under way stay with the plugin that they came to
			if i%2 == 0 {
				g = next
			}
			go func() { done <- g.show(&stream{}, "/") }()
		}
		for range cap(done) {
			select {
			case err := <-done:
				if err != nil {
					t.Fatalf("reload %d: %v", n, err)
				}
			case <-time.After(15 * time.Second):
				t.Fatalf("reload %d: a stream does not end", n)
			}
		}
		end(now)
		now = next
	}
	var active int64
	store.Each(func(m stats.Metric) {
		if m.Name == "wasm.envoy.wasm.runtime.v8.active" && m.Gauge != nil {
			active = m.Gauge.Value()
		}
	})
	if most := int64(runtime.GOMAXPROCS(0)); active < 1 || active > most {
		t.Errorf("there are %d instances, of a plugin that has %d at most", active, most)
	}
	end(now)
}
