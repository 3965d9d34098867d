//go:build !race

package headermutation

const raceEnabled = false
