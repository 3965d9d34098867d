package l4

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/meta"
	"github.com/mecha-mesh/mecha/proxy/netio"
	"github.com/mecha-mesh/mecha/proxy/stats"
)

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
	res, err := c.Engine.Relay(up, f.idle)
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

func newTestManager(t *testing.T, o Options) *Manager {
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

func filterOf(name string, mk func() filter.Network) NetworkFilter {
	return NetworkFilter{Name: name, Factory: func(filter.Env) (func() filter.Network, error) { return mk, nil }}
}

func loopback() Address {
	return Address{Addr: meta.Addr{AddrPort: netip.MustParseAddrPort("127.0.0.1:0")}}
}

// echoServer sends everything back.
func echoServer(t *testing.T) meta.Addr {
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
				io.Copy(c, c)
				c.(*net.TCPConn).CloseWrite()
				io.Copy(io.Discard, c)
				c.Close()
			}()
		}
	}()
	return meta.AddrOf(l.Addr())
}

func TestRelayEcho(t *testing.T) {
	to := echoServer(t)
	m := newTestManager(t, Options{})
	err := m.Set(&Spec{Name: "a", Addresses: []Address{loopback()}, Default: &Chain{
		Filters: []NetworkFilter{filterOf("forward", func() filter.Network { return &forward{to: to} })},
	}})
	if err != nil {
		t.Fatal(err)
	}
	for _, size := range []int{1, 1000, 100_000, 10_000_000} {
		c, err := net.Dial("tcp", m.Listeners()[0].Bound()[0].String())
		if err != nil {
			t.Fatal(err)
		}
		c.SetDeadline(time.Now().Add(20 * time.Second))
		sent := bytes.Repeat([]byte("mecha"), size/5+1)[:size]
		go func() {
			c.Write(sent)
			c.(*net.TCPConn).CloseWrite()
		}()
		got, err := io.ReadAll(c)
		if err != nil || !bytes.Equal(got, sent) {
			t.Fatalf("size %d: got %d bytes, %v", size, len(got), err)
		}
		c.Close()
	}
}
