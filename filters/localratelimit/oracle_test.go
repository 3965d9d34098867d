//go:build oracle

package localratelimit_test

import (
	"testing"

	"github.com/mecha-mesh/mecha/proxy/filter/filtertest/dialogue"
)

func TestOracleWholeProxy(t *testing.T) { dialogue.Oracle(t, "testdata/whole/*.txt") }
