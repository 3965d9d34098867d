package l4

import (
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/mecha-mesh/mecha/proxy/buffer"
	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/meta"
	"github.com/mecha-mesh/mecha/proxy/netio"
)

type inspectFunc func(p filter.Peeker) error

func (f inspectFunc) Inspect(p filter.Peeker) error { return f(p) }

func inspects(f func(p filter.Peeker) error) ListenerFilter {
	return ListenerFilter{Name: "test", Factory: func(filter.Env) (filter.Listener, error) { return inspectFunc(f), nil }}
}

// echoing sends everything back until the client has finished.
func echoing() filter.Network { return replay{} }

func TestPeekGivesBytesBack(t *testing.T) {
	var seen [2]string
	m := newTestManager(t, Options{})
	l := setListener(t, m, &Spec{Name: "l", Addresses: []Address{loopback()}, FilterTimeout: patience,
		Filters: []ListenerFilter{
			inspects(func(p filter.Peeker) error {
				b, err := p.Peek(5)
				seen[0] = string(b)
				return err
			}),
			inspects(func(p filter.Peeker) error { // sees the same bytes; asks for more
				if err := p.Discard(2); err != nil {
					return err
				}
				b, err := p.Peek(8)
				seen[1] = string(b)
				p.Meta().ServerName = "from.filter"
				return err
			}),
		},
		Chains: []*Chain{chainOf("named", Match{ServerNames: []string{"from.filter"}}, echoing)},
	})
	c := dial(t, l)
	io.WriteString(c, "01234")
	io.WriteString(c, "56789")
	c.CloseWrite()
	if s := said(t, c); s != "23456789" {
		t.Errorf("the filter chain got %q", s)
	}
	m.Close()
	if !strings.HasPrefix(seen[0], "01234") || seen[1] != "23456789" {
		t.Errorf("seen %q", seen)
	}
}

func TestListenerFilterEnds(t *testing.T) {
	peek := inspects(func(p filter.Peeker) error { _, err := p.Peek(10); return err })
	never := inspects(func(p filter.Peeker) error { return errTest })
	tooMuch := inspects(func(p filter.Peeker) error { _, err := p.Peek(1 << 20); return err })
	for _, c := range []struct {
		name    string
		spec    Spec
		send    string
		end     bool
		want    string
		counter string
	}{
		{"timeout", Spec{FilterTimeout: 30 * time.Millisecond, Filters: []ListenerFilter{peek}}, "abc", false, "", "downstream_pre_cx_timeout"},
		{"continue after a timeout", Spec{FilterTimeout: 30 * time.Millisecond, ContinueOnTimeout: true, Filters: []ListenerFilter{peek, never}}, "abc", false, "hello abc", "downstream_pre_cx_timeout"},
		{"client leaves", Spec{FilterTimeout: patience, Filters: []ListenerFilter{peek}}, "abc", true, "", "downstream_listener_filter_remote_close"},
		{"failure", Spec{FilterTimeout: patience, Filters: []ListenerFilter{never}}, "", false, "", ""}, // the filter counts it
		{"too much", Spec{FilterTimeout: patience, Filters: []ListenerFilter{tooMuch}}, "", false, "", "downstream_listener_filter_error"},
		{"panic", Spec{FilterTimeout: patience, Filters: []ListenerFilter{inspects(func(filter.Peeker) error { panic("on purpose") })}}, "", false, "", "mecha_connection_panics"},
		{"disabled", Spec{Filters: []ListenerFilter{{Name: "x", Factory: never.Factory, Disabled: &Predicate{Any: true}}}}, "abc", false, "hello abc", "downstream_cx_total"},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := newTestManager(t, Options{})
			c.spec.Name, c.spec.Addresses, c.spec.StatPrefix = "l", []Address{loopback()}, "p"
			c.spec.Default = chainOf("x", Match{}, func() filter.Network {
				return speak{func(fc *filter.Conn) string {
					var b buffer.Buf
					defer b.Release()
					for b.Len() < len(c.send) {
						if _, err := fc.Engine.Recv(&b); err != nil {
							return err.Error()
						}
					}
					return "hello " + string(b.Bytes())
				}}
			})
			l := setListener(t, m, &c.spec)
			conn := dial(t, l)
			io.WriteString(conn, c.send)
			if c.end {
				conn.CloseWrite()
			}
			got, err := io.ReadAll(conn)
			if string(got) != c.want || err != nil && !strings.Contains(err.Error(), "reset") {
				t.Errorf("got %q, %v, want %q", got, err, c.want)
			}
			if c.counter != "" {
				eventually(t, m, "listener.p."+c.counter, 1)
			}
			eventually(t, m, "listener.p.downstream_pre_cx_active", 0)
		})
	}
}

func TestNoChain(t *testing.T) {
	m := newTestManager(t, Options{})
	l := setListener(t, m, &Spec{Name: "l", Addresses: []Address{loopback()}, Chains: []*Chain{
		chainOf("never", Match{TransportProtocol: "tls"}, speaking("")),
	}})
	if s := said(t, dial(t, l)); s != "" {
		t.Errorf("got %q", s)
	}
	eventually(t, m, "listener.127.0.0.1_0.no_filter_chain_match", 1)
	if v := metric(m, "listener.127.0.0.1_0.downstream_cx_total"); v != 0 { // as Envoy counts
		t.Errorf("%d connections counted", v)
	}
}

func TestLimits(t *testing.T) {
	begun := make(chan *filter.Conn, 10)
	hold := func() filter.Network { return hold{begun: begun} }
	m := newTestManager(t, Options{MaxConnections: 3})
	a := setListener(t, m, &Spec{Name: "a", StatPrefix: "a", MaxConnections: 1, Addresses: []Address{loopback()}, Default: chainOf("x", Match{}, hold)})
	b := setListener(t, m, &Spec{Name: "b", StatPrefix: "b", Addresses: []Address{loopback()}, Default: chainOf("x", Match{}, hold)})
	free := setListener(t, m, &Spec{Name: "free", StatPrefix: "free", IgnoreGlobalLimit: true, Addresses: []Address{loopback()}, Default: chainOf("x", Match{}, hold)})
	refused := func(l *Listener) {
		t.Helper()
		if b, err := io.ReadAll(dial(t, l)); len(b) > 0 || err != nil && !strings.Contains(err.Error(), "reset") {
			t.Errorf("got %q, %v", b, err)
		}
	}
	first := dial(t, a)
	<-begun
	refused(a)
	eventually(t, m, "listener.a.downstream_cx_overflow", 1)
	dial(t, b)
	<-begun
	dial(t, b)
	<-begun
	refused(b)
	eventually(t, m, "listener.b.downstream_global_cx_overflow", 1)
	dial(t, free)
	<-begun
	first.Close()
	eventually(t, m, "listener.a.downstream_cx_active", 0)
	for a.Active() > 0 { // the place is given back right after the gauge
	}
	dial(t, a) // there is room again in a, but four in all
	eventually(t, m, "listener.a.downstream_global_cx_overflow", 1)
}

func TestListenerOnUnixSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	m := newTestManager(t, Options{})
	setListener(t, m, &Spec{Name: "l", Addresses: []Address{{Addr: meta.Addr{Path: path}, Mode: 0o600}}, Default: chainOf("x", Match{}, echoing)})
	if st, err := os.Stat(path); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", st, err)
	}
	c, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	io.WriteString(c, "hello")
	c.(*net.UnixConn).CloseWrite()
	if s := said(t, c); s != "hello" {
		t.Errorf("got %q", s)
	}
	if v := metric(m, "listener."+path+".downstream_cx_total"); v != 1 {
		t.Errorf("counted %d", v)
	}
}

func TestStatNames(t *testing.T) {
	for want, s := range map[string]*Spec{
		"0.0.0.0_15006": {Addresses: []Address{{Addr: addr("0.0.0.0:15006")}}},
		"[__]_15006":    {Addresses: []Address{{Addr: addr("[::]:15006")}, {Addr: addr("0.0.0.0:15006")}}},
		"[__1]_80":      {Addresses: []Address{{Addr: addr("[::1]:80")}}},
		"mine_x":        {StatPrefix: "mine:x", Addresses: []Address{{Addr: addr("[::1]:80")}}},
	} {
		if got := s.statPrefix(); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

// TestChainsAreBuiltOnFirstUse: the chains of virtual listeners cost nothing before
// a connection comes; those of bound ones are checked at once.
func TestChainsAreBuiltOnFirstUse(t *testing.T) {
	built := 0
	c := &Chain{Filters: []NetworkFilter{{Name: "x", Factory: func(filter.Env) (func() filter.Network, error) {
		built++
		return speaking(""), nil
	}}}}
	m := newTestManager(t, Options{})
	setListener(t, m, &Spec{Name: "virtual", Unbound: true, Addresses: []Address{{Addr: addr("10.0.0.1:80")}}, Default: c})
	if built != 0 {
		t.Error("built without a connection")
	}
	setListener(t, m, &Spec{Name: "bound", Addresses: []Address{loopback()}, Default: c})
	if built != 1 {
		t.Errorf("built %d times", built)
	}
}

// TestEnv: what filters get to know, and when they are told that they are not needed
// any more.
func TestEnv(t *testing.T) {
	retired := make(chan string, 10)
	m := newTestManager(t, Options{})
	f := NetworkFilter{Name: "mine", Factory: func(env filter.Env) (func() filter.Network, error) {
		if env.Name != "mine" || env.Parent.Name() != "listener.p" {
			t.Errorf("name %q, parent %q", env.Name, env.Parent.Name())
		}
		env.OnRetire(func() { retired <- "network" })
		return speaking(""), nil
	}}
	lf := ListenerFilter{Name: "its", Factory: func(env filter.Env) (filter.Listener, error) {
		if env.Name != "its" {
			t.Errorf("name %q", env.Name)
		}
		env.OnRetire(func() { retired <- "listener" })
		return inspectFunc(func(filter.Peeker) error { return nil }), nil
	}}
	l := setListener(t, m, &Spec{Name: "l", StatPrefix: "p", Addresses: []Address{loopback()}, Filters: []ListenerFilter{lf}, Default: &Chain{Filters: []NetworkFilter{f}}})
	said(t, dial(t, l))
	m.Remove("l")
	got := map[string]bool{<-retired: true, <-retired: true}
	if !got["network"] || !got["listener"] {
		t.Errorf("told %v", got)
	}
	if err := m.Set(&Spec{Name: "bad", StatPrefix: "q", Addresses: []Address{loopback()}, Filters: []ListenerFilter{lf, {
		Name: "no", Factory: func(filter.Env) (filter.Listener, error) { return nil, errTest },
	}}, Default: &Chain{}}); !errors.Is(err, errTest) || !strings.Contains(err.Error(), "listener_filters[1]") {
		t.Errorf("got %v", err)
	}
	if s := <-retired; s != "listener" {
		t.Errorf("told %q", s)
	}
	if v := metric(m, "listener.q.downstream_cx_total"); v != -1 {
		t.Error("a listener that was refused has statistics")
	}
}

func TestSocketOptionsReachTheSocket(t *testing.T) {
	m := newTestManager(t, Options{})
	s := &Spec{Name: "l", Addresses: []Address{loopback(), loopback()}, ReusePort: true, Sockets: 2, Default: chainOf("x", Match{}, speaking("hi"))}
	l := setListener(t, m, s)
	bound := l.Bound()
	if len(bound) != 4 || bound[0] != bound[1] || bound[2] != bound[3] || bound[0] == bound[2] {
		t.Fatalf("bound %v", bound)
	}
	for _, a := range bound {
		if got := said(t, dialAddr(t, a.String())); got != "hi" {
			t.Errorf("got %q", got)
		}
	}
	if _, err := netio.Listen(netio.ListenOptions{Addr: bound[0], ReusePort: true}); err != nil {
		t.Error(err)
	}
}
