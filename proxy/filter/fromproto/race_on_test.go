//go:build race

package fromproto_test

const raceEnabled = true
