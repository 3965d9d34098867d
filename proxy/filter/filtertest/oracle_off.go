//go:build !oracle

package filtertest

const oracle = false
