package l4

import (
	"io"
	"net"
	"strings"
	"testing"

	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/runtime"
	"github.com/mecha-mesh/mecha/proxy/stats"
)

// TestSetHealthy: while the process is said to be unhealthy, connections are told to
// drain, those to come included, but for listeners of drain_type MODIFY_ONLY.
func TestSetHealthy(t *testing.T) {
	begun, drained := make(chan *filter.Conn, 10), make(chan string, 10)
	mk := func() filter.Network { return watched{begun: begun, drained: drained} }
	m := newTestManager(t, Options{})
	usual := setListener(t, m, &Spec{Name: "usual", Addresses: []Address{loopback()}, Default: chainOf("usual", Match{}, mk)})
	other := setListener(t, m, &Spec{Name: "other", DrainModifyOnly: true, Addresses: []Address{loopback()}, Default: chainOf("other", Match{}, mk)})
	open := func(l *Listener) (net.Conn, *filter.Conn) {
		t.Helper()
		c := dial(t, l)
		return c, <-begun
	}
	drains := func(c *filter.Conn) bool {
		select {
		case <-c.Engine.Draining():
			return true
		default:
			return false
		}
	}
	old, oldConn := open(usual)
	_, otherConn := open(other)
	m.SetHealthy(true) // it was
	if drains(oldConn) {
		t.Error("told to drain by a process that is healthy")
	}
	m.SetHealthy(false)
	m.SetHealthy(false)
	if s := <-drained; s != "usual" || !drains(oldConn) || drains(otherConn) {
		t.Errorf("%q was told, usual drains %v, other %v", s, drains(oldConn), drains(otherConn))
	}
	_, late := open(usual)
	if <-drained; !drains(late) {
		t.Error("a new connection is not told to drain")
	}
	if _, c := open(other); drains(c) {
		t.Error("a new connection of a MODIFY_ONLY listener is told to drain")
	}
	alive(t, old) // nothing is cut

	m.SetHealthy(true)
	if _, c := open(usual); drains(c) {
		t.Error("told to drain though the process is healthy again")
	}
	if len(drained) > 0 {
		t.Errorf("%q was told, too", <-drained)
	}
}

// TestRuntimeLimits: the runtime changes limits while connections come.
func TestRuntimeLimits(t *testing.T) {
	for _, tc := range []struct{ key, counter string }{
		{"envoy.resource_limits.listener.l.connection_limit", "listener.p.downstream_cx_overflow"},
		{"overload.global_downstream_max_connections", "listener.p.downstream_global_cx_overflow"},
	} {
		t.Run(tc.key, func(t *testing.T) {
			begun := make(chan *filter.Conn, 10)
			st := stats.NewStore()
			rt := runtime.New([]runtime.Layer{{Name: "admin", Kind: runtime.Admin}}, st)
			m := newTestManager(t, Options{Env: filter.Env{Stats: st, Runtime: rt}})
			l := setListener(t, m, &Spec{Name: "l", StatPrefix: "p", Addresses: []Address{loopback()}, Default: chainOf("x", Match{}, func() filter.Network { return hold{begun: begun} })})
			set := func(value string) {
				t.Helper()
				if err := rt.SetAdmin([][2]string{{tc.key, value}}); err != nil {
					t.Fatal(err)
				}
			}
			dial(t, l)
			<-begun
			set("1")
			if b, err := io.ReadAll(dial(t, l)); len(b) > 0 || err != nil && !strings.Contains(err.Error(), "reset") {
				t.Errorf("got %q, %v", b, err)
			}
			eventually(t, m, tc.counter, 1)
			set("2")
			dial(t, l)
			<-begun
			set("")
			dial(t, l)
			<-begun
			if v := metric(m, tc.counter); v != 1 {
				t.Errorf("%d connections were refused", v)
			}
		})
	}
}

// TestAddressTakenBeforeStart: an address that was free when the listener was made has
// gone to somebody else when it begins to listen.
func TestAddressTakenBeforeStart(t *testing.T) {
	m := NewManager(newTestManager(t, Options{}).o)
	defer m.Close()
	l := setListener(t, m, &Spec{Name: "l", Addresses: []Address{loopback()}, Default: chainOf("x", Match{}, speaking("hi"))})
	setListener(t, m, &Spec{Name: "good", Addresses: []Address{loopback()}, Default: chainOf("x", Match{}, speaking("hi"))})
	taken, err := net.Listen("tcp", l.Bound()[0].String())
	if err != nil {
		t.Skipf("the kernel keeps the address for whoever has bound it: %v", err)
	}
	defer taken.Close()
	m.Start()
	if m.Ready() {
		t.Error("ready without one of the listeners")
	}
	wantErr(t, m.Failed()["l"], `listener "l"`, "address", taken.Addr().String(), "address already in use")
	if len(m.Failed()) != 1 || len(l.Bound()) != 0 {
		t.Errorf("failed %v, bound to %v", m.Failed(), l.Bound())
	}
	if v := metric(m, "listener_manager.listener_create_failure"); v != 1 {
		t.Errorf("%d failures counted", v)
	}
	taken.Close()
	setListener(t, m, &Spec{Name: "l", Hash: 2, Addresses: []Address{l.Spec().Addresses[0]}, Default: chainOf("x", Match{}, speaking("again"))})
	if s := said(t, dial(t, l)); s != "again" || !m.Ready() {
		t.Errorf("got %q, failed %v", s, m.Failed())
	}
}
