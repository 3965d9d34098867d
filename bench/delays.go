package main

import (
	"slices"
	"sync"
	"time"
)

// delays collects how long requests took from when they were due.
type delays struct {
	mu   sync.Mutex
	on   bool
	took []time.Duration
}

// record begins a new collection, or ends it.
func (d *delays) record(on bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if on {
		d.took = make([]time.Duration, 0, 1<<17)
	}
	d.on = on
}

func (d *delays) add(t time.Duration) {
	d.mu.Lock()
	if d.on {
		d.took = append(d.took, t)
	}
	d.mu.Unlock()
}

// latency is a distribution in microseconds.
type latency struct {
	P50  float64 `json:"p50_us"`
	P99  float64 `json:"p99_us"`
	P999 float64 `json:"p999_us"`
}

// summary is nil if nothing was recorded.
func (d *delays) summary() *latency {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.took) == 0 {
		return nil
	}
	slices.Sort(d.took)
	at := func(q float64) float64 {
		i := min(int(q*float64(len(d.took))), len(d.took)-1)
		return float64(d.took[i]) / float64(time.Microsecond)
	}
	return &latency{P50: at(0.5), P99: at(0.99), P999: at(0.999)}
}
