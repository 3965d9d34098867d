//go:build oracle

package dynamicforwardproxy_test

import (
	"testing"

	"github.com/mecha-mesh/mecha/filters/dynamicforwardproxy"
	"github.com/mecha-mesh/mecha/proxy/filter/filtertest/dialogue"
)

func TestOracleDialogues(t *testing.T) {
	s := dynamicforwardproxy.Spec
	dialogue.OracleAbout(t, dialogue.Subject{Name: s.Name, Type: s.Type, RouteType: s.RouteType}, "testdata/*.txt")
}
