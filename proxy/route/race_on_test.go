//go:build race

package route

const raceEnabled = true // sync.Pool drops items there
