//go:build oracle

package oauth2_test

import (
	"testing"

	"github.com/mecha-mesh/mecha/proxy/filter/filtertest/dialogue"
)

func TestOracleDialogues(t *testing.T) { dialogue.OracleAbout(t, about, "testdata/*.txt") }

// TestOracleFleet: a session that begins at Envoy goes on at mecha, and back.
func TestOracleFleet(t *testing.T) { play(t, dialogue.StartEnvoy) }
