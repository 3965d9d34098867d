//go:build race

package mutate

const raceEnabled = true // sync.Pool drops items there
