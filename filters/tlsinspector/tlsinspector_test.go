package tlsinspector

import (
	"crypto/tls"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	tlsinspectorv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/listener/tls_inspector/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/mecha-mesh/mecha/proxy/buffer"
	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/l4"
	"github.com/mecha-mesh/mecha/proxy/meta"
	"github.com/mecha-mesh/mecha/proxy/stats"
)

// tell answers with what the filter has found, and how many bytes it has left.
type tell struct{ want int }

func (tell) Reset() {}

func (f tell) Serve(c *filter.Conn) error {
	var b buffer.Buf
	for b.Len() < f.want {
		if end, err := c.Engine.Recv(&b); end || err != nil {
			break
		}
	}
	b.Release()
	m := c.Meta
	b.AppendString(m.TransportProtocol + "|" + m.ServerName + "|" + strings.Join(m.ALPN, ","))
	return c.Engine.Send(&b, true)
}

func TestInspect(t *testing.T) {
	hello := helloOf(t, &tls.Config{ServerName: "A.Example", NextProtos: []string{"h2", "http/1.1"}})
	bare := helloOf(t, &tls.Config{InsecureSkipVerify: true})
	large := inRecords(message1(ext(21, make([]byte, 2000))), 1<<14)
	for _, c := range []struct {
		name     string
		cfg      *Config
		send     []byte
		want     string
		counters string
	}{
		{"hello", &Config{MaxHello: 16 << 10}, hello, "tls|a.example|h2,http/1.1", "tls_found alpn_found sni_found"},
		{"bare hello", &Config{MaxHello: 16 << 10}, bare, "tls||", "tls_found alpn_not_found sni_not_found"},
		{"records", &Config{MaxHello: 16 << 10}, inRecords(hello[recordHeader:], 60), "tls|a.example|h2,http/1.1", "tls_found alpn_found sni_found"},
		{"plain", &Config{MaxHello: 16 << 10}, []byte("x"), "raw_buffer||", "tls_not_found"},
		{"cut hello", &Config{MaxHello: 16 << 10}, hello[:40], "raw_buffer||", "tls_not_found"},
		{"nothing", &Config{MaxHello: 16 << 10}, nil, "", "connection_closed"},
		{"plain refused", &Config{MaxHello: 16 << 10, CloseOnError: true}, []byte("x"), "", "tls_not_found"},
		{"large", &Config{MaxHello: 16 << 10}, large, "tls||", "tls_found alpn_not_found sni_not_found"},
		{"too large", &Config{MaxHello: 512}, large, "", "client_hello_too_large"},
	} {
		t.Run(c.name, func(t *testing.T) {
			store := stats.NewStore()
			m := l4.NewManager(l4.Options{Env: filter.Env{Stats: store, Log: slog.New(slog.DiscardHandler)}})
			defer m.Close()
			m.Start()
			err := m.Set(&l4.Spec{
				Name: "l", Addresses: []l4.Address{{Addr: meta.Addr{AddrPort: netip.MustParseAddrPort("127.0.0.1:0")}}},
				Filters: []l4.ListenerFilter{{Name: "tls", Factory: func(env filter.Env) (filter.Listener, error) { return newInspector(c.cfg, env) }}},
				Default: &l4.Chain{Filters: []l4.NetworkFilter{{Name: "tell", Factory: func(filter.Env) (func() filter.Network, error) {
					return func() filter.Network { return tell{len(c.send)} }, nil
				}}}},
			})
			if err != nil {
				t.Fatal(err)
			}
			conn, err := net.Dial("tcp", m.Listeners()[0].Bound()[0].String())
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			conn.SetDeadline(time.Now().Add(20 * time.Second))
			conn.Write(c.send)
			conn.(*net.TCPConn).CloseWrite()
			got, err := io.ReadAll(conn)
			if string(got) != c.want || err != nil && c.want != "" {
				t.Errorf("got %q, %v, want %q", got, err, c.want)
			}
			var counted []string
			store.Each(func(x stats.Metric) {
				if name, mine := strings.CutPrefix(x.Name, "tls_inspector."); mine && x.Counter != nil && x.Counter.Value() > 0 {
					counted = append(counted, name)
				}
			})
			for _, name := range strings.Fields(c.counters) {
				if !strings.Contains(" "+strings.Join(counted, " ")+" ", " "+name+" ") {
					t.Errorf("%s is not counted, only %v", name, counted)
				}
			}
			if len(counted) != len(strings.Fields(c.counters)) {
				t.Errorf("counted %v, want %s", counted, c.counters)
			}
		})
	}
}

func TestParseConfig(t *testing.T) {
	yes, no := wrapperspb.Bool(true), wrapperspb.Bool(false)
	for _, c := range []struct {
		pb   *tlsinspectorv3.TlsInspector
		want string // in the error, "" for none
	}{
		{&tlsinspectorv3.TlsInspector{}, ""},
		{&tlsinspectorv3.TlsInspector{InitialReadBufferSize: wrapperspb.UInt32(512), EnableJa3Fingerprinting: no}, ""},
		{&tlsinspectorv3.TlsInspector{MaxClientHelloSize: wrapperspb.UInt32(16384)}, ""},
		{&tlsinspectorv3.TlsInspector{MaxClientHelloSize: wrapperspb.UInt32(16385)}, "max_client_hello_size"},
		{&tlsinspectorv3.TlsInspector{MaxClientHelloSize: wrapperspb.UInt32(255)}, "max_client_hello_size"},
		{&tlsinspectorv3.TlsInspector{InitialReadBufferSize: wrapperspb.UInt32(255)}, "initial_read_buffer_size"},
		{&tlsinspectorv3.TlsInspector{EnableJa3Fingerprinting: yes}, "enable_ja3_fingerprinting"},
		{&tlsinspectorv3.TlsInspector{EnableJa4Fingerprinting: yes}, "enable_ja4_fingerprinting"},
	} {
		raw, err := proto.Marshal(c.pb)
		if err != nil {
			t.Fatal(err)
		}
		cfg, err := parseConfig(raw, &filter.Parser{})
		switch {
		case c.want == "" && (err != nil || cfg.MaxHello != 16<<10):
			t.Errorf("%v: %+v, %v", c.pb, cfg, err)
		case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)):
			t.Errorf("%v: %v", c.pb, err)
		}
	}
	if _, err := parseConfig([]byte{0xff}, nil); err == nil {
		t.Error("took what is no message")
	}
}
