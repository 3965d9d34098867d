//go:build race

package headermutation

const raceEnabled = true // sync.Pool drops items there
