//go:build race

package filtertest

// race is whether the race detector runs, under which everything allocates.
const race = true
