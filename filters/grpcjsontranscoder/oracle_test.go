//go:build oracle

package grpcjsontranscoder_test

import (
	"testing"

	"github.com/mecha-mesh/mecha/proxy/filter/filtertest/dialogue"
)

func TestOracleWholeProxy(t *testing.T) { dialogue.OracleAbout(t, about, "testdata/whole/*.txt") }

func TestOracleService(t *testing.T) {
	dialogue.OracleAbout(t, bookstore(t), "testdata/service/*.txt")
}
