//go:build oracle

package wasm_test

import (
	"testing"

	"github.com/mecha-mesh/mecha/proxy/filter/filtertest/dialogue"
)

func TestOracleDialogues(t *testing.T) { dialogue.OracleAbout(t, about(t), "testdata/*.txt") }

func TestOracleWholeProxy(t *testing.T) { dialogue.OracleAbout(t, about(t), "testdata/whole/*.txt") }
