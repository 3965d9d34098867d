//go:build race

package lb

// raceEnabled turns off what the race detector disturbs: allocation gates.
const raceEnabled = true
