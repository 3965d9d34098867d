package e2e

import (
	"fmt"
	"net"
	"strings"
	"testing"

	"github.com/mecha-mesh/mecha/proxy/filter/filtertest/ports"
	"github.com/mecha-mesh/mecha/xds/ads"
	"github.com/mecha-mesh/mecha/xds/xdstest"
)

// TestAddressTaken: a listener whose address somebody else has is refused with the
// reason, and accepted once the address is free.
func TestAddressTaken(t *testing.T) {
	t.Parallel()
	variants(t, func(t *testing.T, delta bool) {
		a, plane, port := startBackend(t, "a"), xdstest.New(t), freePort(t)
		taken, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", ports.Free(t)))
		if err != nil {
			t.Fatal(err)
		}
		defer taken.Close()
		release := plane.Hold()
		plane.Set(xdstest.StaticCluster("a", "127.0.0.1", a.port), xdstest.Route("shop", "a"), xdstest.HTTPListener(t, "web", "127.0.0.1", port, "shop"))
		release()
		m := startMecha(t, overADS(plane.Address(), delta))
		m.ready()
		late := xdstest.HTTPListener(t, "late", "127.0.0.1", uint32(taken.Addr().(*net.TCPAddr).Port), "shop")
		plane.Set(late)
		nack := plane.Await("a NACK", func(r xdstest.Request) bool { return r.TypeURL == ads.ListenerType && r.Error != "" })
		for _, part := range []string{`"late"`, "address", taken.Addr().String(), "address already in use"} {
			if !strings.Contains(nack.Error, part) {
				t.Errorf("the NACK does not say %q: %s", part, nack.Error)
			}
		}
		m.until("listener_manager.lds.update_rejected", 1)
		m.until("listener_manager.listener_create_failure", 1)
		if s := m.errorStates("dynamic_listeners"); len(s) != 1 || !strings.Contains(s["late"], "already in use") {
			t.Errorf("error states %q", s)
		}
		answers(t, local(port), 200)
		taken.Close()
		late.StatPrefix = "again"
		plane.Set(late)
		eventually(t, "the listener", func() string {
			if s := m.errorStates("dynamic_listeners"); len(s) > 0 {
				return fmt.Sprint(s)
			}
			return ""
		})
		answers(t, taken.Addr().String(), 200)
	})
}
