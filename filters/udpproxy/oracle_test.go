//go:build oracle

package udpproxy_test

import (
	"testing"

	"github.com/mecha-mesh/mecha/proxy/filter/filtertest/dialogue"
)

func TestOracleSessions(t *testing.T) { play(t, dialogue.StartEnvoy) }

func TestOracleTunnelsToEnvoy(t *testing.T)   { playTunnels(t, startMecha, dialogue.StartEnvoy, false) }
func TestOracleTunnelsFromEnvoy(t *testing.T) { playTunnels(t, dialogue.StartEnvoy, startMecha, true) }
