//go:build race

package cluster

// raceEnabled turns off what the race detector disturbs: allocation gates.
const raceEnabled = true
