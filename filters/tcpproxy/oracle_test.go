//go:build oracle

package tcpproxy_test

import (
	"testing"

	"github.com/mecha-mesh/mecha/proxy/filter/filtertest/dialogue"
)

func TestOracleDialogues(t *testing.T) { dialogue.Oracle(t, "testdata/*.txt") }

func TestOracleDeaf(t *testing.T) { playDeaf(t, dialogue.StartEnvoy) }
