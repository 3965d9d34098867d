//go:build race

package applog

// raceEnabled skips allocation gates, which the race detector breaks.
const raceEnabled = true
