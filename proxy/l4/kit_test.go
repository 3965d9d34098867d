package l4

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/mecha-mesh/mecha/proxy/buffer"
	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/meta"
	"github.com/mecha-mesh/mecha/proxy/netio"
	"github.com/mecha-mesh/mecha/proxy/stats"
)

// TestMain fails the package when a test has left a slab behind; only the build tag
// "invariants" knows.
func TestMain(m *testing.M) {
	code := m.Run()
	for _, stack := range buffer.Leaks() {
		fmt.Fprintf(os.Stderr, "a slab was not released, it was taken by\n%s\n", stack)
		code = 1
	}
	os.Exit(code)
}

// patience is how long a test waits for what should happen at once.
const patience = 20 * time.Second

func newTestManager(t testing.TB, o Options) *Manager {
	t.Helper()
	if o.Env.Stats == nil {
		o.Env.Stats = stats.NewStore()
	}
	o.Env.Log = slog.New(slog.DiscardHandler)
	m := NewManager(o)
	m.Start()
	t.Cleanup(m.Close)
	return m
}

// metric returns the value of a counter or gauge, -1 if there is none.
func metric(m *Manager, name string) int64 {
	v := int64(-1)
	m.o.Env.Stats.Each(func(x stats.Metric) {
		if x.Name != name {
			return
		}
		v = max(v, 0)
		switch {
		case x.Counter != nil:
			v += int64(x.Counter.Value())
		case x.Gauge != nil:
			v += x.Gauge.Value()
		}
	})
	return v
}

// eventually waits until a metric of the listener has the value.
func eventually(t testing.TB, m *Manager, name string, want int64) {
	t.Helper()
	until := time.Now().Add(patience)
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for metric(m, name) != want {
		if time.Now().After(until) {
			t.Fatalf("%s is %d, want %d", name, metric(m, name), want)
		}
		<-tick.C
	}
}

func setListener(t testing.TB, m *Manager, s *Spec) *Listener {
	t.Helper()
	if err := m.Set(s); err != nil {
		t.Fatal(err)
	}
	for _, l := range m.Listeners() {
		if l.Name() == s.Name {
			return l
		}
	}
	t.Fatalf("the listener %q is not there", s.Name)
	return nil
}

func filterOf(name string, mk func() filter.Network) NetworkFilter {
	return NetworkFilter{Name: name, Factory: func(filter.Env) (func() filter.Network, error) { return mk, nil }}
}

// chainOf is a chain of one terminal filter.
func chainOf(name string, match Match, mk func() filter.Network) *Chain {
	return &Chain{Name: name, Match: match, Filters: []NetworkFilter{filterOf(name, mk)}}
}

func addr(s string) meta.Addr { return meta.Addr{AddrPort: netip.MustParseAddrPort(s)} }

func loopback() Address { return Address{Addr: addr("127.0.0.1:0")} }

func dial(t testing.TB, l *Listener) *net.TCPConn {
	t.Helper()
	return dialAddr(t, l.Bound()[0].String())
}

func dialAddr(t testing.TB, to string) *net.TCPConn {
	t.Helper()
	c, err := net.DialTimeout("tcp", to, patience)
	if err != nil {
		t.Fatal(err)
	}
	c.SetDeadline(time.Now().Add(patience))
	t.Cleanup(func() { c.Close() })
	return c.(*net.TCPConn)
}

// said reads everything the proxy sends.
func said(t testing.TB, c net.Conn) string {
	t.Helper()
	b, err := io.ReadAll(c)
	if err != nil {
		t.Fatalf("read %q, %v", b, err)
	}
	return string(b)
}

// forward is a terminal filter that relays to one address.
type forward struct {
	to   meta.Addr
	idle time.Duration
	res  chan<- filter.RelayResult
}

func (*forward) Reset() {}

func (f *forward) Serve(c *filter.Conn) error {
	up, err := netio.Dial(context.Background(), netio.DialOptions{Addr: f.to})
	if err != nil {
		return err
	}
	res, err := c.Engine.Relay(up, filter.RelayOptions{Idle: f.idle})
	if res.Reset {
		_ = up.Abort()
	} else {
		_ = up.Close()
	}
	if f.res != nil {
		f.res <- res
	}
	return err
}

// speak is a terminal filter that says what it is told to and closes.
type speak struct{ text func(c *filter.Conn) string }

func (speak) Reset() {}

func (s speak) Serve(c *filter.Conn) error {
	var b buffer.Buf
	b.AppendString(s.text(c))
	return c.Engine.Send(&b, true)
}

func speaking(text string) func() filter.Network {
	return func() filter.Network { return speak{func(*filter.Conn) string { return text }} }
}

// hold is a terminal filter that keeps the connection until its client or the proxy
// ends it.
type hold struct {
	begun chan<- *filter.Conn
	ended chan<- error
}

func (hold) Reset() {}

func (h hold) Serve(c *filter.Conn) error {
	if h.begun != nil {
		h.begun <- c
	}
	var b buffer.Buf
	for {
		end, err := c.Engine.Recv(&b)
		b.Release()
		if end || err != nil {
			if h.ended != nil {
				h.ended <- err
			}
			return err
		}
	}
}

// echoServer sends everything back.
func echoServer(t testing.TB) meta.Addr {
	t.Helper()
	return server(t, func(c *net.TCPConn) {
		io.Copy(c, c)
		c.CloseWrite()
		io.Copy(io.Discard, c)
	})
}

// server serves connections until the test ends.
func server(t testing.TB, serve func(c *net.TCPConn)) meta.Addr {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				serve(c.(*net.TCPConn))
			}()
		}
	}()
	return meta.AddrOf(l.Addr())
}

func wantErr(t *testing.T, err error, parts ...string) {
	t.Helper()
	if err == nil {
		t.Error("no error")
		return
	}
	for _, p := range parts {
		if !strings.Contains(err.Error(), p) {
			t.Errorf("%v: does not say %q", err, p)
		}
	}
}

var errTest = errors.New("test")
