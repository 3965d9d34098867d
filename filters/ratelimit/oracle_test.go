//go:build oracle

package ratelimit_test

import (
	"testing"

	"github.com/mecha-mesh/mecha/proxy/filter/filtertest/dialogue"
)

func TestOracleDialogues(t *testing.T) { dialogue.OracleAbout(t, about(t), "testdata/*.txt") }

func TestOracleWholeProxy(t *testing.T) {
	dialogue.OracleAbout(t, dialogue.Subject{Service: startService(t)}, "testdata/whole/*.txt")
}
