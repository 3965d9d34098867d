//go:build oracle

package xds_test

import (
	"strings"
	"testing"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"

	"github.com/mecha-mesh/mecha/proxy/filter/filtertest/ports"
	"github.com/mecha-mesh/mecha/xds/xdstest"
)

// TestOracleRefusedTablesEndTheWait: what TestRefusedTablesEndTheWait says is what Envoy does.
func TestOracleRefusedTablesEndTheWait(t *testing.T) {
	broken := strings.Replace(answers("r", ""), `domains: ["*"]`, `domains: ["*", "*"]`, 1)
	for manager, want := range map[string]string{overRDS: "404 ", overECDS(t): "500 "} {
		t.Run(want, func(t *testing.T) {
			plane := xdstest.New(t)
			port := ports.Free(t)
			l := httpListener(t, "l", manager)
			l.Address = xdstest.SocketAddress("127.0.0.1", uint32(port))
			plane.Set(l, message(t, &routev3.RouteConfiguration{}, broken), message(t, &corev3.TypedExtensionConfig{}, refusedExtension))
			if got := envoyOf(t, plane, port)("/"); got != want {
				t.Errorf("Envoy answers %s, want %s", got, want)
			}
		})
	}
}
