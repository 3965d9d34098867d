package udpproxy_test

import (
	"cmp"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mecha-mesh/mecha/proxy/filter/filtertest/dialogue"
	"github.com/mecha-mesh/mecha/proxy/filter/filtertest/ports"
)

const patience = 15 * time.Second

type obj = map[string]any

// world is a proxy with one UDP listener, two hosts that answer in capitals, and a
// log.
type world struct {
	*testing.T
	*dialogue.Proxy
	port  int
	hosts map[string]*net.UDPConn
	ip    string // of the listener
	log   string
	asked atomic.Int32  // requests for tunnels, where a test counts them
	gone  chan struct{} // closed when the stream has ended that a server waits for
}

// cases are what users see of udp_proxy. They hold for mecha and for Envoy.
var cases = []struct {
	name   string
	filter obj    // merged over the filter
	listen obj    // merged over the listener
	ip     string // of listener and clients, 127.0.0.1 if empty
	limit  int    // max_connections of the clusters
	root   bool
	play   func(w *world)
}{
	{name: "session", filter: obj{"cluster": "up"}, play: func(w *world) {
		a, b := w.client(), w.client()
		for i := range 3 {
			a.ask(fmt.Sprint("a", i), fmt.Sprint("A", i))
			b.ask(fmt.Sprint("b", i), fmt.Sprint("B", i))
		}
		w.stats("downstream_sess_total", "2", "downstream_sess_active", "2", "downstream_sess_rx_datagrams", "6",
			"downstream_sess_rx_bytes", "12", "downstream_sess_tx_datagrams", "6", "downstream_sess_tx_bytes", "12")
		w.WaitStat(w, "cluster.up.udp.sess_tx_datagrams", "6")
		w.WaitStat(w, "cluster.up.udp.sess_rx_datagrams", "6")
		w.WaitStat(w, "cluster.up.upstream_cx_tx_bytes_total", "12")
	}},
	{name: "empty datagrams are datagrams", filter: obj{"cluster": "up"}, play: func(w *world) {
		c := w.client()
		c.ask("", "")
		c.ask("x", "X")
	}},
	{name: "longer ones than allowed are dropped", filter: obj{"cluster": "up"}, play: func(w *world) {
		c := w.client()
		c.send(strings.Repeat("x", 1501))
		c.ask(strings.Repeat("y", 1500), strings.Repeat("Y", 1500))
		w.WaitStat(w, fmt.Sprintf("listener.127.0.0.1_%d.udp.downstream_rx_datagram_dropped", w.port), "1")
		w.stats("downstream_sess_rx_datagrams", "1")
	}},
	{
		name: "large datagrams", filter: obj{"cluster": "up", "upstream_socket_config": obj{"max_rx_datagram_size": 9000}},
		listen: obj{"udp_listener_config": obj{"downstream_socket_config": obj{"max_rx_datagram_size": 9000}}},
		play:   func(w *world) { w.client().ask(strings.Repeat("y", 9000), strings.Repeat("Y", 9000)) },
	},
	{name: "long answers", filter: obj{"cluster": "up"}, play: func(w *world) {
		w.client().ask("long 2000", strings.Repeat("L", 2000))
	}},
	{name: "answers that are too long are dropped", filter: obj{"cluster": "up", "upstream_socket_config": obj{"prefer_gro": false}}, play: func(w *world) {
		c := w.client()
		c.send("long 2000")
		c.ask("x", "X")
		w.WaitStat(w, "cluster.up.udp.sess_rx_datagrams_dropped", "1")
	}},
	{name: "idle", filter: obj{"cluster": "up", "idle_timeout": "0.3s"}, play: func(w *world) {
		c := w.client()
		c.ask("a", "A")
		w.stats("idle_timeout", "1", "downstream_sess_active", "0")
		c.ask("b", "B")
		w.stats("downstream_sess_total", "2")
	}},
	{name: "no cluster", filter: obj{"cluster": "nobody"}, play: func(w *world) {
		c := w.client()
		c.send("a")
		c.send("b")
		w.stats("downstream_sess_no_route", "2", "downstream_sess_total", "0", "downstream_sess_rx_datagrams", "0")
	}},
	{name: "matcher", filter: obj{"matcher": obj{
		"matcher_tree": obj{"input": network("SourceIPInput"), "exact_match_map": obj{"map": obj{"127.0.0.1": route("up")}}},
		"on_no_match":  route("nobody"),
	}}, play: func(w *world) { w.client().ask("a", "A") }},
	{name: "no match", filter: obj{"matcher": obj{
		"matcher_tree": obj{"input": network("SourceIPInput"), "exact_match_map": obj{"map": obj{"127.0.0.9": route("up")}}},
	}}, play: func(w *world) {
		w.client().send("a")
		w.stats("downstream_sess_no_route", "1")
	}},
	{name: "no host", filter: obj{"cluster": "empty"}, play: func(w *world) {
		w.client().send("a")
		w.WaitStat(w, "cluster.empty.upstream_cx_none_healthy", "1")
		w.stats("downstream_sess_total", "0")
	}},
	{name: "limit", filter: obj{"cluster": "up"}, limit: 1, play: func(w *world) {
		w.client().ask("a", "A")
		w.client().send("b")
		w.WaitStat(w, "cluster.up.upstream_cx_overflow", "1")
		w.stats("downstream_sess_active", "1")
		if line := w.line(); !strings.HasPrefix(line, "UdpSessionEnd UO {") {
			w.Errorf("log %q", line)
		}
	}},
	{name: "nobody listens", filter: obj{"cluster": "closed"}, play: func(w *world) {
		c := w.client()
		c.send("a")
		w.WaitStat(w, "cluster.closed.udp.sess_rx_errors", "1")
		c.send("b")
		w.WaitStat(w, "cluster.closed.udp.sess_tx_datagrams", "2")
		w.stats("downstream_sess_total", "1")
	}},
	{name: "a host for each datagram", filter: obj{"cluster": "both", "use_per_packet_load_balancing": true}, play: func(w *world) {
		c := w.client()
		for range 4 {
			c.ask("a", "A")
		}
		w.stats("downstream_sess_total", "2", "downstream_sess_rx_datagrams", "4")
	}},
	{name: "a host by the client's address", filter: obj{"cluster": "ring", "hash_policies": []any{obj{"source_ip": true}}}, play: func(w *world) {
		w.stick(w.client())
		w.stats("downstream_sess_total", "8")
	}},
	{name: "a host by a key", filter: obj{"cluster": "ring", "hash_policies": []any{obj{"key": "k"}}}, play: func(w *world) {
		w.stick(w.client())
	}},
	{name: "a host by the client's address for each datagram", filter: obj{
		"cluster": "ring", "hash_policies": []any{obj{"source_ip": true}}, "use_per_packet_load_balancing": true,
	}, play: func(w *world) {
		c := w.client()
		at := c.where()
		for range 4 {
			if now := c.where(); now != at {
				w.Errorf("%s, then %s", at, now)
			}
		}
		w.stats("downstream_sess_total", "1", "downstream_sess_rx_datagrams", "5")
	}},
	{
		name: "limit for each datagram", filter: obj{"cluster": "both", "use_per_packet_load_balancing": true}, limit: 1,
		play: func(w *world) {
			c := w.client()
			c.ask("a", "A")
			c.send("b") // another host, and a session too many
			w.WaitStat(w, "cluster.both.upstream_cx_overflow", "1")
			c.ask("c", "C")
			w.stats("downstream_sess_active", "1", "downstream_sess_tx_datagrams", "2")
		},
	},
	{name: "log", filter: obj{"cluster": "up", "idle_timeout": "0.3s"}, play: func(w *world) {
		c := w.client()
		c.ask("a", "A")
		c.ask("bb", "BB")
		want := fmt.Sprintf(`UdpSessionEnd - {"bytes_received":3,"bytes_sent":3,"cluster_name":"up","datagrams_received":2,"datagrams_sent":2,"errors_sent":0} 3 up=%s down=%s at=127.0.0.1:%d`,
			w.hosts["up"].LocalAddr(), c.LocalAddr(), w.port)
		if line := w.line(); line != want {
			w.Errorf("log\n%s\nwant\n%s", line, want)
		}
	}},
	{name: "log while it lives", filter: obj{"cluster": "up", "access_log_options": obj{"access_log_flush_interval": "0.2s"}}, play: func(w *world) {
		w.client().ask("a", "A")
		if line := w.line(); !strings.HasPrefix(line, `UdpPeriodic - {"bytes_received":1,`) {
			w.Errorf("log %q", line)
		}
	}},
	{name: "the listener's log", filter: obj{"cluster": "up", "access_log": nil, "proxy_access_log": log(
		"%DYNAMIC_METADATA(udp.proxy.proxy)% %BYTES_RECEIVED%")}, play: func(w *world) {
		w.client().ask("a", "A")
		w.client().ask("bb", "BB")
		w.End()
		want := `{"bytes_received":3,"bytes_sent":3,"datagrams_received":2,"datagrams_sent":2,"errors_received":0,"errors_sent":0,"idle_timeout":0,"no_route":0,"session_total":2} 3`
		if line := w.line(); line != want {
			w.Errorf("log\n%s\nwant\n%s", line, want)
		}
	}},
	{name: "IPv6", filter: obj{"cluster": "six"}, ip: "::1", play: func(w *world) {
		c := w.client()
		c.ask("a", "A")
		if at := c.where(); at != w.hosts["six"].LocalAddr().String() {
			w.Errorf("answered by %s", at)
		}
	}},
	{name: "the client's address", root: true, filter: obj{"cluster": "up", "use_original_src_ip": true}, play: func(w *world) {
		c := w.clientAt("127.0.0.7")
		from, _, err := net.SplitHostPort(c.hear("who"))
		if err != nil || from != "127.0.0.7" {
			w.Errorf("the host sees %q, %v", from, err)
		}
	}},
}

// log is an access log in the file of the world, for which LOG stands.
func log(format string) []any {
	return []any{obj{"name": "file", "typed_config": obj{
		"@type": "type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog", "path": "LOG",
		"log_format": obj{"text_format_source": obj{"inline_string": format + "\n"}},
	}}}
}

func network(input string) obj {
	return obj{"name": "in", "typed_config": obj{"@type": "type.googleapis.com/envoy.extensions.matching.common_inputs.network.v3." + input}}
}

func route(cluster string) obj {
	return obj{"action": obj{"name": "route", "typed_config": obj{
		"@type": "type.googleapis.com/envoy.extensions.filters.udp.udp_proxy.v3.Route", "cluster": cluster,
	}}}
}

func play(t *testing.T, start func(t testing.TB, config []byte, admin string) *dialogue.Proxy) {
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			if c.root && os.Getuid() != 0 {
				t.Skip("needs root: sockets that send from foreign addresses are for those with CAP_NET_ADMIN")
			}
			admin := fmt.Sprintf("127.0.0.1:%d", ports.Free(t))
			w := newWorld(t, cmp.Or(c.ip, "127.0.0.1"))
			w.Proxy = start(t, w.marshal(w.config(admin, c.filter, c.listen, c.limit)), admin)
			c.play(w)
		})
	}
}

// newWorld is a world whose proxy does not run yet.
func newWorld(t *testing.T, ip string) *world {
	w := &world{T: t, port: ports.Free(t), ip: ip, log: filepath.Join(t.TempDir(), "log"), hosts: map[string]*net.UDPConn{}, gone: make(chan struct{})}
	for _, name := range []string{"up", "other"} {
		w.hosts[name] = host(t, "127.0.0.1")
	}
	w.hosts["six"] = host(t, "::1")
	return w
}

// marshal is a bootstrap whose logs go to the world's file.
func (w *world) marshal(config obj) []byte {
	w.Helper()
	b, err := json.Marshal(config)
	if err != nil {
		w.Fatal(err)
	}
	return []byte(strings.ReplaceAll(string(b), `"LOG"`, strconv.Quote(w.log)))
}

func TestSessions(t *testing.T) {
	play(t, func(t testing.TB, config []byte, _ string) *dialogue.Proxy { return dialogue.StartMecha(t, config) })
}

func (w *world) config(admin string, filter, listen obj, limit int) obj {
	if limit == 0 {
		limit = 1024
	}
	f := obj{
		"@type":       "type.googleapis.com/envoy.extensions.filters.udp.udp_proxy.v3.UdpProxyConfig",
		"stat_prefix": "test",
		"access_log": log("%ACCESS_LOG_TYPE% %RESPONSE_FLAGS% %DYNAMIC_METADATA(udp.proxy.session)% %DYNAMIC_METADATA(udp.proxy.session:bytes_sent)% " +
			"up=%UPSTREAM_HOST% down=%DOWNSTREAM_REMOTE_ADDRESS% at=%DOWNSTREAM_LOCAL_ADDRESS%"),
	}
	for k, v := range filter {
		f[k] = v
	}
	l := obj{
		"name": "u", "address": address(w.ip, w.port, "UDP"),
		"listener_filters": []any{obj{"name": "udp_proxy", "typed_config": f}},
	}
	for k, v := range listen {
		l[k] = v
	}
	port := func(name string) int { return w.hosts[name].LocalAddr().(*net.UDPAddr).Port }
	cluster := func(name string, ports ...int) obj {
		hosts, policy := []any{}, "ROUND_ROBIN"
		if name == "ring" {
			policy = "RING_HASH"
		}
		for _, p := range ports {
			ip := "127.0.0.1"
			if name == "six" {
				ip = "::1"
			}
			hosts = append(hosts, obj{"endpoint": obj{"address": address(ip, p, "UDP")}})
		}
		return obj{
			"name": name, "type": "STATIC", "lb_policy": policy, "circuit_breakers": obj{"thresholds": []any{obj{"max_connections": limit}}},
			"load_assignment": obj{"cluster_name": name, "endpoints": []any{obj{"lb_endpoints": hosts}}},
		}
	}
	host, p, _ := net.SplitHostPort(admin)
	var adminPort int
	_, _ = fmt.Sscan(p, &adminPort)
	return obj{
		"admin": obj{"address": address(host, adminPort, "TCP")},
		"static_resources": obj{"listeners": []any{l}, "clusters": []any{
			cluster("up", port("up")), cluster("both", port("up"), port("other")), cluster("empty"),
			cluster("ring", port("up"), port("other")),
			cluster("six", port("six")), cluster("closed", ports.Free(w)),
		}},
	}
}

func address(ip string, port int, protocol string) obj {
	return obj{"socket_address": obj{"address": ip, "port_value": port, "protocol": protocol}}
}

// host answers each datagram in capitals, "long N" with N bytes, "where" with its address and
// "who" with that of the sender.
func host(t testing.TB, ip string) *net.UDPConn {
	c, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.ParseIP(ip)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	go func() {
		b := make([]byte, 65536)
		for {
			n, from, err := c.ReadFromUDPAddrPort(b)
			if err != nil {
				return
			}
			text := strings.ToUpper(string(b[:n]))
			var size int
			if _, err := fmt.Sscanf(text, "LONG %d", &size); err == nil {
				text = strings.Repeat("L", size)
			}
			switch text {
			case "WHERE":
				text = c.LocalAddr().String()
			case "WHO":
				text = from.String()
			}
			_, _ = c.WriteToUDPAddrPort([]byte(text), from)
		}
	}()
	return c
}

type client struct {
	*net.UDPConn
	w *world
}

func (w *world) client() *client {
	w.Helper()
	return w.clientAt(w.ip)
}

// clientAt is a client with an address of its own.
func (w *world) clientAt(ip string) *client {
	w.Helper()
	c, err := net.DialUDP("udp", &net.UDPAddr{IP: net.ParseIP(ip)}, &net.UDPAddr{IP: net.ParseIP(w.ip), Port: w.port})
	if err != nil {
		w.Fatal(err)
	}
	w.Cleanup(func() { c.Close() })
	_ = c.SetReadDeadline(time.Now().Add(patience))
	return &client{c, w}
}

func (c *client) send(text string) {
	c.w.Helper()
	if _, err := c.Write([]byte(text)); err != nil {
		c.w.Fatal(err)
	}
}

func (c *client) ask(text, want string) {
	c.w.Helper()
	if got := c.hear(text); got != want {
		c.w.Fatalf("%.20q is answered %.20q (%d bytes); want %.20q", text, got, len(got), want)
	}
}

func (c *client) hear(text string) string {
	c.w.Helper()
	c.send(text)
	b := make([]byte, 65536)
	n, err := c.Read(b)
	if err != nil {
		c.w.Fatalf("%.20q: %v", text, err)
	}
	return string(b[:n])
}

// where asks which host answers.
func (c *client) where() string { return c.hear("where") }

// stick: other clients get the host of the first one.
func (w *world) stick(first *client) {
	w.Helper()
	at := first.where()
	for range 7 {
		if now := w.client().where(); now != at {
			w.Errorf("%s, then %s", at, now)
		}
	}
}

func (w *world) stats(pairs ...string) {
	w.Helper()
	for i := 0; i < len(pairs); i += 2 {
		w.WaitStat(w, "udp.test."+pairs[i], pairs[i+1])
	}
}

// line waits for the first line of the log.
func (w *world) line() string {
	for end := time.Now().Add(patience); time.Now().Before(end); <-time.After(10 * time.Millisecond) {
		if b, err := os.ReadFile(w.log); err == nil {
			if line, _, ok := strings.Cut(string(b), "\n"); ok {
				return line
			}
		}
	}
	return ""
}
