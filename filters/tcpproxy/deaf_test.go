package tcpproxy_test

import (
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/mecha-mesh/mecha/proxy/filter/filtertest/dialogue"
	"github.com/mecha-mesh/mecha/proxy/filter/filtertest/ports"
)

type obj = map[string]any

// patience is how long a connection may take that has to be cut.
const patience = 30 * time.Second

// deaf is a way to a host that reads nothing after it has said what it says.
type deaf struct {
	says             string
	tunnel           bool // tunneling_config
	secure, internal bool // TLS to the host; an internal listener on the way
	pours            bool // the host sends without end, and it is the client that reads nothing
}

var deafs = map[string]deaf{
	"plain":                    {},
	"TLS":                      {secure: true},
	"unanswered":               {tunnel: true},
	"internal listener":        {internal: true},
	"tunnel":                   {tunnel: true, says: "HTTP/1.1 200 OK\r\n\r\n"},
	"deaf client":              {pours: true},
	"deaf client, TLS":         {pours: true, secure: true},
	"deaf client, internal":    {pours: true, internal: true},
	"deaf client, tunnel":      {pours: true, tunnel: true, says: "HTTP/1.1 200 OK\r\n\r\n"},
	"deaf client, TLS, tunnel": {pours: true, tunnel: true, secure: true, says: "HTTP/1.1 200 OK\r\n\r\n"},
}

// host accepts connections and does what d says.
func (d *deaf) host(t testing.TB) int {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	s := httptest.NewUnstartedServer(nil)
	s.StartTLS()
	t.Cleanup(s.Close)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			t.Cleanup(func() { _ = c.Close() })
			go d.serve(c, s.TLS.Certificates)
		}
	}()
	return l.Addr().(*net.TCPAddr).Port
}

func (d *deaf) serve(c net.Conn, certificates []tls.Certificate) {
	if d.secure {
		sc := tls.Server(c, &tls.Config{Certificates: certificates})
		if sc.Handshake() != nil {
			return
		}
		c = sc
	}
	_, err := io.WriteString(c, d.says)
	for piece := strings.Repeat("x", 1<<16); err == nil && d.pours; {
		_, err = io.WriteString(c, piece)
	}
}

func loopback(port int) obj {
	return obj{"socket_address": obj{"address": "127.0.0.1", "port_value": port}}
}

func clusterTo(name string, address obj, secure bool) obj {
	c := obj{"name": name, "type": "STATIC", "load_assignment": obj{"cluster_name": name, "endpoints": []any{
		obj{"lb_endpoints": []any{obj{"endpoint": obj{"address": address}}}},
	}}}
	if secure {
		c["transport_socket"] = obj{"name": "tls", "typed_config": obj{
			"@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext", "common_tls_context": obj{},
		}}
	}
	return c
}

func chainTo(cluster, prefix, idle string, tunnel bool) []any {
	proxy := obj{
		"@type":       "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy",
		"stat_prefix": prefix, "cluster": cluster, "idle_timeout": idle,
	}
	if tunnel {
		proxy["tunneling_config"] = obj{"hostname": "db.test:1"}
	}
	return []any{obj{"filters": []any{obj{"name": "tcp", "typed_config": proxy}}}}
}

func (d *deaf) config(port, admin, host int) obj {
	to := loopback(host)
	listeners := []any{obj{"name": "l", "address": loopback(port), "filter_chains": chainTo("c", "test", "0.5s", d.tunnel)}}
	clusters := []any{}
	if d.internal {
		to = obj{"envoy_internal_address": obj{"server_listener_name": "inner"}}
		listeners = append(listeners, obj{"name": "inner", "internal_listener": obj{}, "filter_chains": chainTo("host", "inner", "1s", false)})
		clusters = append(clusters, clusterTo("host", loopback(host), d.secure))
	}
	return obj{
		"admin": obj{"address": loopback(admin)},
		"bootstrap_extensions": []any{obj{"name": "internal", "typed_config": obj{
			"@type": "type.googleapis.com/envoy.extensions.bootstrap.internal_listener.v3.InternalListener",
		}}},
		"static_resources": obj{"listeners": listeners, "clusters": append(clusters, clusterTo("c", to, d.secure && !d.internal))},
	}
}

// playDeaf: whoever reads nothing holds a connection through the proxy no longer than it may
// be idle.
func playDeaf(t *testing.T, start func(t testing.TB, config []byte, admin string) *dialogue.Proxy) {
	for name, d := range deafs {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			free := ports.FreeN(t, 2)
			raw, err := json.Marshal(d.config(free[0], free[1], d.host(t)))
			if err != nil {
				t.Fatal(err)
			}
			p := start(t, raw, fmt.Sprintf("127.0.0.1:%d", free[1]))
			c, err := net.Dial("tcp4", fmt.Sprintf("127.0.0.1:%d", free[0]))
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			_ = c.SetDeadline(time.Now().Add(patience))
			for piece := strings.Repeat("x", 1<<16); err == nil && !d.pours; {
				_, err = io.WriteString(c, piece)
			}
			if errors.Is(err, os.ErrDeadlineExceeded) {
				t.Error("the client can wait for ever")
			}
			p.WaitStat(t, "tcp.test.idle_timeout", "1")
			p.WaitStat(t, "cluster.c.upstream_cx_active", "0")
			if d.internal { // it has a limit of its own
				p.WaitStat(t, "cluster.host.upstream_cx_active", "0")
			}
		})
	}
}

func TestDeaf(t *testing.T) {
	playDeaf(t, func(t testing.TB, config []byte, _ string) *dialogue.Proxy { return dialogue.StartMecha(t, config) })
}
