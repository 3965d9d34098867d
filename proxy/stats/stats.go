// Package stats counts. A counter, gauge, text or histogram is a field of a struct
// that is bound to a scope once, when configuration is built; the hot path is one
// atomic operation on that field (two for a histogram).
//
// How the numbers are written out is in text.go, json.go and prometheus.go. Pushing
// them somewhere is not here, but what a sink is told (sampler.go), nor is the HTTP side
// of /stats: see package admin.
package stats

import "sync/atomic"

// Counter only grows. The zero value counts, bound or not.
type Counter struct{ v atomic.Uint64 }

// Inc adds one.
func (c *Counter) Inc() { c.v.Add(1) }

// Add adds n.
func (c *Counter) Add(n uint64) { c.v.Add(n) }

// Value returns the count.
func (c *Counter) Value() uint64 { return c.v.Load() }

// Reset sets the count back to zero (admin /reset_counters).
func (c *Counter) Reset() { c.v.Store(0) }

// Gauge goes up and down. The zero value works, bound or not.
type Gauge struct {
	v   atomic.Int64
	set atomic.Bool
}

// Inc adds one.
func (g *Gauge) Inc() { g.Add(1) }

// Dec subtracts one.
func (g *Gauge) Dec() { g.Add(-1) }

// Add adds n, which may be negative.
func (g *Gauge) Add(n int64) {
	g.v.Add(n)
	if !g.set.Load() {
		g.set.Store(true)
	}
}

// Set stores n.
func (g *Gauge) Set(n int64) {
	g.v.Store(n)
	g.set.Store(true)
}

// Value returns the level.
func (g *Gauge) Value() int64 { return g.v.Load() }

// Used reports whether the gauge was ever changed ("usedonly").
func (g *Gauge) Used() bool { return g.set.Load() }

// Never is a counter, and NeverGauge a gauge, of what cannot happen in this process:
// it is always 0, and takes no memory. It is there because dashboards and alerts ask
// for Envoy's names. It must not be the last field of a struct, which would grow it.
type (
	Never      struct{}
	NeverGauge struct{}
)

// TextReadout shows a text, such as control_plane.identifier. The zero value shows
// an empty one.
type TextReadout struct{ v atomic.Pointer[string] }

// Set shows s.
func (t *TextReadout) Set(s string) { t.v.Store(&s) }

// Value returns the text, "" before the first Set.
func (t *TextReadout) Value() string {
	if s := t.v.Load(); s != nil {
		return *s
	}
	return ""
}

// Used reports whether a text was ever set ("usedonly").
func (t *TextReadout) Used() bool { return t.v.Load() != nil }
