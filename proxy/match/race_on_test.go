//go:build race

package match

const raceEnabled = true // sync.Pool drops items there
