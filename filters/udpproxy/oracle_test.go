//go:build oracle

package udpproxy_test

import (
	"testing"

	"github.com/mecha-mesh/mecha/proxy/filter/filtertest/dialogue"
)

func TestOracleSessions(t *testing.T) { play(t, dialogue.StartEnvoy) }
