package e2e

import (
	"bufio"
	"debug/buildinfo"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime/debug"
	"slices"
	"strings"
	"testing"
	"time"

	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	"google.golang.org/protobuf/proto"

	"github.com/mecha-mesh/mecha/xds/xdstest"
)

// TestManyIdleConnections opens two thousand keep-alive connections, lets them idle
// for long enough to be parked, and uses each once more.
func TestManyIdleConnections(t *testing.T) {
	t.Parallel()
	const n = 2000
	a, port := startBackend(t, "a"), freePort(t)
	m := startMecha(t, staticShop(a.port, "", port))
	m.ready()
	newKept(t, from("127.0.0.1", local(port)))
	goroutines, sockets, rss, live := m.stat("server.goroutines"), m.sockets(), m.rss(), m.live()
	var all []*kept
	for range n {
		all = append(all, newKept(t, from("127.0.0.1", local(port))))
	}
	eventually(t, "connections to be parked", func() string {
		if g := m.stat("server.goroutines"); g > goroutines+20 {
			return fmt.Sprintf("%d goroutines", g)
		}
		return ""
	})
	// Beside what lives there is garbage, up to the least that is collected (16 MiB).
	grown, lasting := m.rss()-rss, m.live()-live
	t.Logf("%d idle connections take %d KiB more, %.1f KiB each, of which %.1f last", n, grown, float64(grown)/n, float64(lasting)/n)
	if lasting > 8*n && !raceBuilt(t) {
		t.Errorf("an idle connection takes %d KiB", lasting/n)
	}
	if grown > 24*n && !raceBuilt(t) {
		t.Errorf("an idle connection takes %d KiB with its garbage", grown/n)
	}
	for _, k := range all {
		if k.get() {
			t.Fatal("an idle connection was told to close")
		}
	}
	for _, k := range all {
		k.Close()
	}
	eventually(t, "the descriptors to be closed", func() string {
		if s := m.sockets(); s > sockets+20 {
			return fmt.Sprintf("%d sockets, %d at first", s, sockets)
		}
		return ""
	})
}

// raceBuilt reports whether mecha was built with the race detector, which takes
// memory of its own.
func raceBuilt(t testing.TB) bool {
	t.Helper()
	info, err := buildinfo.ReadFile(binary(t, "mecha"))
	if err != nil {
		t.Fatal(err)
	}
	return slices.ContainsFunc(info.Settings, func(s debug.BuildSetting) bool { return s.Key == "-race" && s.Value == "true" })
}

// startEcho is an application that upgrades to WebSocket and sends back what comes.
func startEcho(t testing.TB) uint32 {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c, rw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		defer c.Close()
		if !strings.EqualFold(r.Header.Get("upgrade"), "websocket") {
			_, _ = io.WriteString(c, "HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n")
			return
		}
		_, _ = io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n")
		_, _ = io.Copy(c, rw) // ends with the session
	})}
	go s.Serve(l)
	t.Cleanup(func() { s.Close() })
	return uint32(l.Addr().(*net.TCPAddr).Port)
}

// session is a WebSocket session, as far as a proxy sees one.
type session struct {
	net.Conn
	r *bufio.Reader
	n uint32
}

func openSession(t *testing.T, addr string) *session {
	t.Helper()
	c, err := net.DialTimeout("tcp", addr, patience)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	s := &session{Conn: c, r: bufio.NewReader(c)}
	_ = c.SetDeadline(time.Now().Add(patience))
	if _, err := io.WriteString(c, "GET /chat HTTP/1.1\r\nhost: a\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	a, err := http.ReadResponse(s.r, nil)
	if err != nil || a.StatusCode != 101 {
		t.Fatalf("the upgrade: %v %v", a, err)
	}
	return s
}

// echo sends a message and waits until it comes back.
func (s *session) echo(t *testing.T) {
	t.Helper()
	s.n++
	var got [4]byte
	b := [4]byte{byte(s.n >> 24), byte(s.n >> 16), byte(s.n >> 8), byte(s.n)}
	_ = s.SetDeadline(time.Now().Add(patience)) // fails only on a closed socket
	if _, err := s.Write(b[:]); err != nil {
		t.Fatalf("a session after %d messages: %v", s.n, err)
	}
	if _, err := io.ReadFull(s.r, got[:]); err != nil || got != b {
		t.Fatalf("a session after %d messages: %x %v", s.n, got, err)
	}
}

// TestSessionsOutlivePushes: WebSocket and TCP sessions go on through two hundred
// changes of their listeners, their routes and their clusters.
func TestSessionsOutlivePushes(t *testing.T) {
	t.Parallel()
	echo, tcp := startEcho(t), startTCPEcho(t)
	plane, port, tcpPort := xdstest.New(t), freePort(t), freePort(t)
	web := func(i int) *listenerv3.Listener {
		l := xdstest.HTTPListener(t, "web", "127.0.0.1", port, "shop")
		hcm := &hcmv3.HttpConnectionManager{}
		if err := l.FilterChains[0].Filters[0].GetTypedConfig().UnmarshalTo(hcm); err != nil {
			t.Fatal(err)
		}
		hcm.UpgradeConfigs = []*hcmv3.HttpConnectionManager_UpgradeConfig{{UpgradeType: "websocket"}}
		hcm.ServerName = fmt.Sprint("v", i)
		l.FilterChains[0].Filters[0].ConfigType = &listenerv3.Filter_TypedConfig{TypedConfig: xdstest.Pack(t, hcm)}
		return l
	}
	relay := func(i int) proto.Message {
		l := xdstest.TCPListener(t, "relay", "127.0.0.1", tcpPort, fmt.Sprintf("tcp%d", i%2))
		return l
	}
	release := plane.Hold()
	plane.Set(xdstest.StaticCluster("e0", "127.0.0.1", echo), xdstest.StaticCluster("e1", "127.0.0.1", echo),
		xdstest.StaticCluster("tcp0", "127.0.0.1", tcp), xdstest.StaticCluster("tcp1", "127.0.0.1", tcp),
		xdstest.Route("shop", "e0"), web(0), relay(0))
	release()
	m := startMecha(t, overADS(plane.Address(), true), "--drain-time-s", "1", "--drain-strategy", "immediate")
	m.ready()
	sessions := []*session{openSession(t, local(port)), openSession(t, local(port)), relaySession(t, local(tcpPort))}
	for i := range 200 {
		plane.Set(web(i+1), relay(i+1), xdstest.Route("shop", fmt.Sprintf("e%d", i%2)))
		m.until("listener_manager.listener_modified", 2*(i+1))
		if i%50 == 49 {
			sessions = append(sessions, openSession(t, local(port)), relaySession(t, local(tcpPort)))
		}
		for _, s := range sessions {
			s.echo(t)
		}
	}
	wait(1500 * time.Millisecond) // past the drain time of the last change
	for _, s := range sessions {
		s.echo(t)
		s.Close()
	}
	m.until("server.total_connections", 0)
	m.until("listener_manager.total_filter_chains_draining", 0)
}

// startTCPEcho is a TCP service that sends back what comes.
func startTCPEcho(t testing.TB) uint32 {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go serveEcho(l)
	return uint32(l.Addr().(*net.TCPAddr).Port)
}

func serveEcho(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			defer c.Close()
			// Ends with the session. Not spliced: pipes are descriptors, too.
			_, _ = io.Copy(struct{ io.Writer }{c}, c)
		}()
	}
}

func relaySession(t *testing.T, addr string) *session {
	t.Helper()
	c, err := net.DialTimeout("tcp", addr, patience)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return &session{Conn: c, r: bufio.NewReader(c)}
}
