//go:build race

package stats

// Under the race detector atomics and pools allocate, so counts of allocations say nothing.
const raceEnabled = true
