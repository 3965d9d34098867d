//go:build oracle

package udpproxy_test

import (
	"testing"

	"github.com/mecha-mesh/mecha/proxy/filter/filtertest/dialogue"
)

func TestOracleSessions(t *testing.T) { play(t, dialogue.StartEnvoy) }

func TestOracleTunnelsToEnvoy(t *testing.T)   { playTunnels(t, startMecha, dialogue.StartEnvoy, true) }
func TestOracleTunnelsFromEnvoy(t *testing.T) { playTunnels(t, dialogue.StartEnvoy, startMecha, false) }
func TestOracleTunnelsOfEnvoy(t *testing.T) {
	playTunnels(t, dialogue.StartEnvoy, dialogue.StartEnvoy, true)
}
func TestOracleTunnelServers(t *testing.T) { playServers(t, dialogue.StartEnvoy) }
