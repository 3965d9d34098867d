//go:build race

package why

// raceEnabled turns off what the race detector disturbs: allocation gates.
const raceEnabled = true
