//go:build race

package pod

// raceEnabled: the tests run several times slower.
const raceEnabled = true
