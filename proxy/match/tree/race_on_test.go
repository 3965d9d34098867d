//go:build race

package tree

const race = true
