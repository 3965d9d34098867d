//go:build !race

package tree

const race = false
