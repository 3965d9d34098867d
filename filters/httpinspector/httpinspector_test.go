package httpinspector_test

import (
	"io"
	"log/slog"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/mecha-mesh/mecha/filters/httpinspector"
	"github.com/mecha-mesh/mecha/filters/tlsinspector"
	"github.com/mecha-mesh/mecha/proxy/buffer"
	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/l4"
	"github.com/mecha-mesh/mecha/proxy/meta"
	"github.com/mecha-mesh/mecha/proxy/stats"
)

// tell answers with what the listener filters have found, and sends everything back.
type tell struct{}

func (tell) Reset() {}

func (tell) Serve(c *filter.Conn) error {
	var b buffer.Buf
	b.AppendString(c.Meta.TransportProtocol)
	for _, a := range c.Meta.ALPN {
		b.AppendString(" " + a)
	}
	b.AppendString("|")
	if err := c.Engine.Send(&b, false); err != nil {
		return err
	}
	for {
		end, err := c.Engine.Recv(&b)
		if err != nil {
			return err
		}
		if err := c.Engine.Send(&b, end); err != nil || end {
			return err
		}
	}
}

// listenerFilter parses an empty configuration, as xDS would.
func listenerFilter(t *testing.T, d filter.Descriptor, typ string) l4.ListenerFilter {
	t.Helper()
	r, err := filter.NewRegistry(d)
	if err != nil {
		t.Fatal(err)
	}
	f, err := (&filter.Parser{Registry: r}).Listener(filter.Any{Type: typ})
	if err != nil {
		t.Fatal(err)
	}
	return l4.ListenerFilter{Name: r.Names()[0], Factory: f}
}

func TestOverSockets(t *testing.T) {
	store := stats.NewStore()
	m := l4.NewManager(l4.Options{Env: filter.Env{Stats: store, Log: slog.New(slog.DiscardHandler)}})
	defer m.Close()
	m.Start()
	mk := func(filter.Env) (func() filter.Network, error) { return func() filter.Network { return tell{} }, nil }
	err := m.Set(&l4.Spec{
		Name:      "l",
		Addresses: []l4.Address{{Addr: meta.Addr{AddrPort: netip.MustParseAddrPort("127.0.0.1:0")}}},
		Filters: []l4.ListenerFilter{
			listenerFilter(t, tlsinspector.Spec, tlsinspector.Spec.Type), listenerFilter(t, httpinspector.Spec, httpinspector.Spec.Type),
		},
		FilterTimeout: 20 * time.Second,
		Default:       &l4.Chain{Filters: []l4.NetworkFilter{{Name: "tell", Factory: mk}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ send, want, counter string }{
		{"GET / HTTP/1.1\r\n\r\n", "raw_buffer http/1.1", "http11_found"},
		{"GET / HTTP/1.0\r\n\r\n", "raw_buffer http/1.0", "http10_found"},
		{"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "raw_buffer h2c", "http2_found"},
		{"SSH-2.0-x\r\n", "raw_buffer", "http_not_found"},
		{"GET /unfinished", "raw_buffer", "http_not_found"}, // and no more comes
		{"\x16\x03\x01\x00\x05junk", "raw_buffer", "http_not_found"},
	} {
		before := counter(store, "http_inspector."+c.counter)
		for _, piece := range []int{len(c.send), 1} {
			conn, err := net.Dial("tcp", m.Listeners()[0].Bound()[0].String())
			if err != nil {
				t.Fatal(err)
			}
			conn.SetDeadline(time.Now().Add(20 * time.Second))
			for i := 0; i < len(c.send); i += piece {
				io.WriteString(conn, c.send[i:i+piece])
			}
			conn.(*net.TCPConn).CloseWrite()
			got, err := io.ReadAll(conn)
			if err != nil || string(got) != c.want+"|"+c.send {
				t.Errorf("%q: got %q, %v", c.send, got, err)
			}
			conn.Close()
		}
		if n := counter(store, "http_inspector."+c.counter) - before; n != 2 {
			t.Errorf("%q: %s grew by %d", c.send, c.counter, n)
		}
	}
}

func counter(store *stats.Store, name string) (n uint64) {
	store.Each(func(m stats.Metric) {
		if m.Name == name {
			n += m.Counter.Value()
		}
	})
	return n
}
