package hcm_test

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mecha-mesh/mecha/proxy/buffer"
	"github.com/mecha-mesh/mecha/proxy/filter/filtertest/dialogue"
	"github.com/mecha-mesh/mecha/proxy/filter/filtertest/ports"
)

// way is what is spoken on the two sides of the proxy, and whether over TLS.
type way struct {
	down, up int
	secure   bool
}

func (w way) String() string {
	s := fmt.Sprintf("HTTP/%d to HTTP/%d", w.down, w.up)
	if w.secure {
		s += " over TLS"
	}
	return s
}

// ways are all of them; the first one is what the others are compared with.
func ways() (out []way) {
	for _, secure := range []bool{false, true} {
		for _, down := range []int{1, 2} {
			for _, up := range []int{1, 2} {
				out = append(out, way{down, up, secure})
			}
		}
	}
	return out
}

// protocols are one version, in the clear and over TLS.
func protocols(version int) *http.Protocols {
	p := new(http.Protocols)
	p.SetHTTP1(version == 1)
	p.SetHTTP2(version == 2)
	p.SetUnencryptedHTTP2(version == 2)
	return p
}

// crossing is mecha between net/http's clients and its server, with one listener for
// each kind of upstream.
type crossing struct {
	t     testing.TB
	app   *application
	proxy *dialogue.Proxy
	ports map[way]int // down is 0: listeners speak both
	ups   []*httptest.Server

	clients []*http.Transport
}

func startCrossing(t testing.TB, script []*exchange) *crossing {
	t.Helper()
	c := &crossing{t: t, app: &application{script: script, seen: map[string]string{}}, ports: map[way]int{}}
	t.Cleanup(func() { nothingLeft(t) }) // when everything has been closed
	var listeners, clusters []any
	for _, up := range []int{1, 2} {
		for _, secure := range []bool{false, true} {
			s := httptest.NewUnstartedServer(c.app)
			s.Config.Protocols = protocols(up)
			s.Config.ErrorLog = log.New(io.Discard, "", 0)
			if secure {
				s.EnableHTTP2 = up == 2
				s.StartTLS()
			} else {
				s.Start()
			}
			c.ups = append(c.ups, s)
			t.Cleanup(s.Close)
			port := ports.Free(t)
			c.ports[way{0, up, secure}] = port
			name := fmt.Sprintf("c%d%v", up, secure)
			listeners = append(listeners, crossingListener(t, name, port, secure, s))
			clusters = append(clusters, crossingCluster(name, s.Listener.Addr().(*net.TCPAddr).Port, up, secure))
		}
	}
	raw, err := json.Marshal(obj{"static_resources": obj{"listeners": listeners, "clusters": clusters}})
	if err != nil {
		t.Fatal(err)
	}
	c.proxy = dialogue.StartMecha(t, raw)
	return c
}

func loopback(port int) obj {
	return obj{"socket_address": obj{"address": "127.0.0.1", "port_value": port}}
}

// tlsSocket is a transport socket.
func tlsSocket(kind string, context obj) obj {
	context["@type"] = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3." + kind
	return obj{"name": "tls", "typed_config": context}
}

func crossingListener(t testing.TB, cluster string, port int, secure bool, s *httptest.Server) obj {
	chain := obj{"filters": []any{obj{"name": "hcm", "typed_config": obj{
		"@type":       "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
		"stat_prefix": "test", "http_protocol_options": obj{"enable_trailers": true},
		"route_config": obj{"virtual_hosts": []any{obj{"name": "v", "domains": []any{"*"}, "routes": []any{
			obj{"match": obj{"prefix": "/"}, "route": obj{"cluster": cluster, "timeout": "0s"}},
		}}}},
		"http_filters": []any{obj{"name": "router", "typed_config": obj{
			"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router",
		}}},
	}}}}
	if secure {
		pair := s.TLS.Certificates[0]
		key, err := x509.MarshalPKCS8PrivateKey(pair.PrivateKey)
		if err != nil {
			t.Fatal(err)
		}
		text := func(kind string, b []byte) obj {
			return obj{"inline_string": string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: b}))}
		}
		chain["transport_socket"] = tlsSocket("DownstreamTlsContext", obj{"common_tls_context": obj{
			"alpn_protocols":   []any{"h2", "http/1.1"},
			"tls_certificates": []any{obj{"certificate_chain": text("CERTIFICATE", pair.Certificate[0]), "private_key": text("PRIVATE KEY", key)}},
		}})
	}
	return obj{"name": cluster, "address": loopback(port), "filter_chains": []any{chain}}
}

func crossingCluster(name string, port, up int, secure bool) obj {
	options := obj{"http_protocol_options": obj{"enable_trailers": true}}
	if up == 2 {
		options = obj{"http2_protocol_options": obj{}}
	}
	c := obj{
		"name": name, "type": "STATIC",
		"load_assignment": obj{"cluster_name": name, "endpoints": []any{obj{"lb_endpoints": []any{obj{"endpoint": obj{"address": loopback(port)}}}}}},
		"typed_extension_protocol_options": obj{"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": obj{
			"@type":                "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
			"explicit_http_config": options,
		}},
	}
	if secure {
		c["transport_socket"] = tlsSocket("UpstreamTlsContext", obj{"common_tls_context": obj{}})
	}
	return c
}

// client speaks one version.
func (c *crossing) client(w way) (*http.Client, string) {
	t := &http.Transport{
		Protocols: protocols(w.down), DisableCompression: true, ExpectContinueTimeout: mixedPatience, MaxIdleConnsPerHost: 100,
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, // what is tested is behind the handshake
	}
	c.clients = append(c.clients, t)
	c.t.Cleanup(t.CloseIdleConnections)
	scheme := "http"
	if w.secure {
		scheme = "https"
	}
	return &http.Client{Transport: t, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }},
		fmt.Sprintf("%s://127.0.0.1:%d", scheme, c.ports[way{0, w.up, w.secure}])
}

// play makes all exchanges one way, some at a time, and returns what the client got.
func (c *crossing) play(w way, atOnce int) []string {
	client, base := c.client(w)
	got := make([]string, len(c.app.script))
	next := make(chan *exchange)
	var wg sync.WaitGroup
	for range atOnce {
		wg.Go(func() {
			for x := range next {
				got[x.id] = x.perform(client, w.String(), base)
			}
		})
	}
	for _, x := range c.app.script {
		next <- x
	}
	close(next)
	wg.Wait()
	return got
}

// atRest waits until nothing is under way, and then until no connection is left.
func (c *crossing) atRest() {
	c.t.Helper()
	zero := []string{"http.test.downstream_rq_active", "http.test.http2.streams_active", "http.test.http2.pending_send_bytes"}
	for _, secure := range []bool{false, true} {
		for _, up := range []int{1, 2} {
			cluster := fmt.Sprintf("cluster.c%d%v.", up, secure)
			zero = append(zero, cluster+"upstream_rq_active", cluster+"upstream_rq_pending_active")
			if up == 2 {
				zero = append(zero, cluster+"http2.streams_active", cluster+"http2.pending_send_bytes")
			}
		}
	}
	for _, s := range zero {
		c.settled(s)
	}
	for _, s := range c.ups {
		s.CloseClientConnections()
	}
	c.settled("http.test.downstream_cx_active")
	c.settled("http.test.downstream_cx_http2_active")
	for _, cluster := range []string{"c1false", "c2false", "c1true", "c2true"} {
		c.settled("cluster." + cluster + ".upstream_cx_active")
	}
}

// settled waits until a gauge is 0, or was never there. net/http's clients close only what
// is idle when they are asked to, so they are asked again.
func (c *crossing) settled(gauge string) {
	c.t.Helper()
	for end := time.Now().Add(15 * time.Second); ; <-time.After(10 * time.Millisecond) {
		for _, client := range c.clients {
			client.CloseIdleConnections()
		}
		got := c.proxy.Stat(gauge)
		if got == "" || got == "0" {
			return
		}
		if time.Now().After(end) {
			c.t.Errorf("%s is %s", gauge, got)
			return
		}
	}
}

// nothingLeft waits until no goroutine of the proxy is left, and no slab is taken (with
// -tags invariants).
func nothingLeft(t testing.TB) {
	t.Helper()
	for end := time.Now().Add(15 * time.Second); ; <-time.After(10 * time.Millisecond) {
		buf, left := make([]byte, 4<<20), ""
		for _, g := range strings.Split(string(buf[:runtime.Stack(buf, true)]), "\n\n")[1:] {
			if strings.Contains(g, "mecha/proxy/") {
				left += g + "\n\n"
			}
		}
		for _, at := range buffer.Leaks() {
			left += "a slab that was taken at\n" + at + "\n\n"
		}
		if left == "" {
			return
		}
		if time.Now().After(end) {
			t.Errorf("left behind:\n%.20000s", left)
			return
		}
	}
}

// TestWaysAreTheSame: what upstream and the client get of an exchange does not depend on
// the protocols between which mecha translates, and nothing of it stays.
func TestWaysAreTheSame(t *testing.T) {
	seed := uint64(1)
	r := rand.New(rand.NewPCG(seed, seed))
	var script []*exchange
	for i := range 160 {
		script = append(script, randomExchange(r, i, i%4 == 3))
	}
	c := startCrossing(t, script)
	var first []string
	for i, w := range ways() {
		got := c.play(w, 8)
		if i == 0 {
			first = got
		}
		for id, x := range script {
			switch {
			case !x.whole() && got[id] != "":
				t.Errorf("%v, %+v: %s", w, x, got[id])
			case !x.whole() || x.early && (got[id] == "" || first[id] == ""):
			case got[id] != first[id]:
				t.Errorf("%v, %+v\nthe client got\n%s\nwant\n%s", w, x, short(got[id]), short(first[id]))
			}
			at := " " + strconv.Itoa(id)
			if a, b := c.app.at(w.String()+at), c.app.at(ways()[0].String()+at); x.whole() && !x.early && (a != b || a == "") {
				t.Errorf("%v, %+v\nupstream got\n%s\nwant\n%s", w, x, short(a), short(b))
			}
		}
	}
	c.atRest()
	for _, bad := range c.app.bad { // nobody adds to it any more
		t.Error(bad)
	}
}

func (a *application) at(key string) string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.seen[key]
}

func short(s string) string { return fmt.Sprintf("%.3000s", s) }

// TestManyStreamsBrokenOff: of hundreds of streams at once, on one connection where the
// protocol is HTTP/2, many are broken off, by either side, at any moment; the others are
// answered, and nothing stays.
func TestManyStreamsBrokenOff(t *testing.T) {
	r := rand.New(rand.NewPCG(2, 2))
	var script []*exchange
	for i := range 400 {
		script = append(script, randomExchange(r, i, i%2 == 0))
	}
	c := startCrossing(t, script)
	for _, w := range []way{{2, 1, false}, {2, 2, false}} {
		for id, s := range c.play(w, 200) {
			x := script[id]
			if s == "" && x.whole() && !x.early || s != "" && !x.whole() || s != "" && x.whole() && !answered(s, x.status) {
				t.Errorf("%v, %+v: %s", w, x, short(s))
			}
		}
	}
	c.atRest()
	for _, bad := range c.app.bad { // nobody adds to it any more
		t.Error(bad)
	}
}

// answered reports whether the client got a final answer with this status.
func answered(got string, status int) bool {
	return strings.Contains("\n"+got+"\n", fmt.Sprintf("\n%d\n", status))
}
