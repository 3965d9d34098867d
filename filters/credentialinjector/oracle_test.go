//go:build oracle

package credentialinjector_test

import (
	"testing"

	"github.com/mecha-mesh/mecha/proxy/filter/filtertest/dialogue"
)

func TestOracleWhole(t *testing.T) { dialogue.Oracle(t, "testdata/whole/*.txt") }
