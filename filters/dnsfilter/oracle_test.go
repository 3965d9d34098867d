//go:build oracle

package dnsfilter_test

import "testing"

func TestOracleQueries(t *testing.T) { play(t, true) }
