//go:build race

package compressor

const raceOrInvariants = true
