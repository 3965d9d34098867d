//go:build oracle

package redisproxy_test

import (
	"testing"

	"github.com/mecha-mesh/mecha/proxy/filter/filtertest/dialogue"
)

func TestOracleDialogues(t *testing.T) { dialogue.Oracle(t, "testdata/*.txt") }
