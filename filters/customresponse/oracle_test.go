//go:build oracle

package customresponse_test

import (
	"testing"

	"github.com/mecha-mesh/mecha/proxy/filter/filtertest/dialogue"
)

func TestOracleWhole(t *testing.T) { dialogue.Oracle(t, "testdata/whole/*.txt") }
