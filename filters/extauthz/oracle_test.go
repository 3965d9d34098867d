//go:build oracle

package extauthz_test

import (
	"testing"

	"github.com/mecha-mesh/mecha/proxy/filter/filtertest/dialogue"
)

func TestOracleDialogues(t *testing.T) { dialogue.OracleAbout(t, about, "testdata/*.txt") }

func TestOracleWholeProxy(t *testing.T) {
	dialogue.OracleAbout(t, dialogue.Subject{Service: startGuard(t)}, "testdata/whole/*.txt")
}

func TestOracleChecks(t *testing.T) { playChecks(t, dialogue.StartEnvoy) }
