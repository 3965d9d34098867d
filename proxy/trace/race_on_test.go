//go:build race

package trace

const raceEnabled = true // sync.Pool drops items there
