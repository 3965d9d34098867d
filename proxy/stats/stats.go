// Package stats counts. A counter, gauge or histogram is a field of a struct that
// is bound to a scope once, when configuration is built; the hot path is one
// atomic operation on that field.
//
// How the numbers are written out is in text.go and prometheus.go.
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
