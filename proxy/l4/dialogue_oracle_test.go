//go:build oracle

package l4_test

import (
	"testing"

	"github.com/mecha-mesh/mecha/proxy/filter/filtertest/dialogue"
)

// TestOracleDialogues plays the same scripts against Envoy.
func TestOracleDialogues(t *testing.T) { dialogue.Oracle(t, "testdata/*.txt") }
