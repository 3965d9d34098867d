//go:build oracle

package telemetry_test

import (
	"testing"

	"github.com/mecha-mesh/mecha/proxy/filter/filtertest/dialogue"
)

func TestOracleLogs(t *testing.T) { playLogs(t, dialogue.StartEnvoy) }

func TestOracleTraces(t *testing.T) { playTraces(t, dialogue.StartEnvoy) }

func TestOracleMetrics(t *testing.T) { playMetrics(t, dialogue.StartEnvoy) }
