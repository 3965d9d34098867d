//go:build oracle

package hcm_test

import (
	"testing"

	"github.com/mecha-mesh/mecha/proxy/filter/filtertest/dialogue"
)

func TestOracleDialogues(t *testing.T) { dialogue.Oracle(t, "testdata/*.txt") }

func TestOracleStall(t *testing.T) { playStall(t, dialogue.StartEnvoy) }
