package health

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	grpchealth "google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/mecha-mesh/mecha/proxy/match"
	"github.com/mecha-mesh/mecha/proxy/meta"
	"github.com/mecha-mesh/mecha/proxy/netio"
	"github.com/mecha-mesh/mecha/proxy/runtime"
)

// session is one against a real server, without its timer.
func session(t *testing.T, c *Config, addr string) *Session {
	t.Helper()
	rt := runtime.New([]runtime.Layer{{Name: "l", Kind: runtime.Static, Values: map[string]string{"health_check.verify_cluster": "100"}}}, nil)
	k := NewChecker(c, Env{Stats: &Stats{}, Runtime: rt, Rand: func() uint64 { return 0 }, Traffic: func() bool { return true }})
	s := &Session{c: k, host: Host{Name: "web"}, ctx: context.Background()}
	s.link.dial = func(ctx context.Context) (*netio.Conn, error) {
		return netio.Dial(ctx, netio.DialOptions{Addr: meta.Addr{AddrPort: netip.MustParseAddrPort(addr)}})
	}
	t.Cleanup(s.link.close)
	return s
}

func (s *Session) once() result {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	return s.c.check(ctx, s)
}

// TestNames: that of the endpoint wins over that of the check, which wins over the cluster's.
func TestNames(t *testing.T) {
	var host atomic.Value
	srv := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { host.Store(r.Host) }))
	defer srv.Close()
	for _, tc := range []struct{ endpoint, check, want string }{
		{"", "", "web"}, {"", "of.check", "of.check"}, {"of.endpoint", "of.check", "of.endpoint"},
	} {
		s := session(t, &Config{HTTP: &HTTP{Path: "/", Host: tc.check}}, srv.Listener.Addr().String())
		s.host.Hostname = tc.endpoint
		if r := s.once(); r.outcome != passed || host.Load() != tc.want {
			t.Errorf("%+v: asked %v, %+v", tc, host.Load(), r)
		}
	}
}

func TestHTTP(t *testing.T) {
	var conns atomic.Int32
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/":
			if r.Host != "web" || r.Header.Get("User-Agent") != "Envoy/HC" || r.Header.Get("X-Who") != "me" || r.Method != "GET" {
				w.WriteHeader(400)
			}
			fmt.Fprint(w, "all is well")
		case "/degraded":
			w.Header().Set("x-envoy-degraded", "")
		case "/out":
			w.Header().Set("x-envoy-immediate-health-check-fail", "true")
			w.WriteHeader(503)
		case "/named":
			w.Header().Set("x-envoy-upstream-healthchecked-cluster", "web-1")
		case "/post":
			if b, err := io.ReadAll(r.Body); err != nil || string(b) != "ping" || r.Method != "POST" {
				w.WriteHeader(400)
			}
		case "/hang":
			<-r.Context().Done()
		default:
			w.WriteHeader(429)
		}
	}))
	srv.Config.ConnState = func(_ net.Conn, st http.ConnState) {
		if st == http.StateNew {
			conns.Add(1)
		}
	}
	srv.Start()
	defer srv.Close()
	web, other := match.Prefix("web", false), match.Exact("other", false)
	for _, tt := range []struct {
		name string
		http HTTP
		want result
	}{
		{"well", HTTP{Path: "/", Add: []Field{{Name: "x-who", Value: "me"}}}, result{}},
		{"not its name", HTTP{Path: "/", Host: "other", Add: []Field{{Name: "x-who", Value: "me"}}}, result{outcome: failed}},
		{"body", HTTP{Path: "/", Add: []Field{{Name: "x-who", Value: "me"}}, BufferSize: 1024, Receive: [][]byte{[]byte("all"), []byte("well")}}, result{}},
		{"body in another order", HTTP{Path: "/", Add: []Field{{Name: "x-who", Value: "me"}}, BufferSize: 1024, Receive: [][]byte{[]byte("well"), []byte("all")}}, result{outcome: failed}},
		{"body beyond what is kept", HTTP{Path: "/", Add: []Field{{Name: "x-who", Value: "me"}}, BufferSize: 5, Receive: [][]byte{[]byte("well")}}, result{outcome: failed}},
		{"degraded", HTTP{Path: "/degraded"}, result{degraded: true}},
		{"out", HTTP{Path: "/out"}, result{outcome: failed, immediate: true}},
		{"retriable", HTTP{Path: "/x", Retriable: []Range{{429, 430}}}, result{outcome: failed, retriable: true}},
		{"expected", HTTP{Path: "/x", Expected: []Range{{400, 500}}}, result{}},
		{"not expected", HTTP{Path: "/degraded", Expected: []Range{{201, 300}}}, result{outcome: failed}},
		{"service", HTTP{Path: "/named", Service: &web}, result{}},
		{"other service", HTTP{Path: "/named", Service: &other}, result{outcome: failed}},
		{"body sent", HTTP{Path: "/post", Method: "POST", Send: []byte("ping")}, result{}},
	} {
		s := session(t, &Config{HTTP: &tt.http}, srv.Listener.Addr().String())
		before := conns.Load()
		for range 2 {
			got := s.once()
			if (got.code != 0) != (got.outcome == failed) {
				t.Errorf("%s: the code of the answer is %d", tt.name, got.code)
			}
			if got.code = 0; got != tt.want {
				t.Errorf("%s: %+v, want %+v", tt.name, got, tt.want)
			}
		}
		if n := conns.Load() - before; n != 1 {
			t.Errorf("%s: %d connections for two checks", tt.name, n)
		}
	}
	s := session(t, &Config{HTTP: &HTTP{Path: "/degraded"}}, srv.Listener.Addr().String())
	s.once()
	srv.CloseClientConnections()
	if got := s.once(); !got.degraded {
		t.Errorf("a connection that was closed between checks fails one: %+v", got)
	}
	s = session(t, &Config{HTTP: &HTTP{Path: "/hang"}}, srv.Listener.Addr().String())
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	if got := s.c.check(ctx, s); got.outcome != late {
		t.Errorf("no answer in time: %+v", got)
	}
}

func TestGRPC(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv, hs := grpc.NewServer(), grpchealth.NewServer()
	healthpb.RegisterHealthServer(srv, hs)
	go func() { _ = srv.Serve(l) }() // until Stop
	defer srv.Stop()
	hs.SetServingStatus("up", healthpb.HealthCheckResponse_SERVING)
	hs.SetServingStatus("down", healthpb.HealthCheckResponse_NOT_SERVING)
	for service, want := range map[string]outcome{"": passed, "up": passed, "down": failed, "unknown": failed} {
		s := session(t, &Config{GRPC: &GRPC{Service: service, Metadata: []Field{{Name: "x-a", Value: "b"}}}}, l.Addr().String())
		for range 2 {
			if got := s.once(); got.outcome != want {
				t.Errorf("%q: %+v, want %v", service, got, want)
			}
		}
	}
}

func TestTCP(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				var p [4]byte
				for {
					if _, err := io.ReadFull(c, p[:]); err != nil {
						return
					}
					if string(p[:]) == "ping" {
						fmt.Fprint(c, "+po")
						fmt.Fprint(c, "ng\r\n")
					}
				}
			}()
		}
	}()
	for _, tt := range []struct {
		name string
		tcp  TCP
		want outcome
	}{
		{"connection", TCP{}, passed},
		{"answer", TCP{Send: []byte("ping"), Receive: [][]byte{[]byte("+"), []byte("pong")}}, passed},
		{"no answer", TCP{Send: []byte("pong"), Receive: [][]byte{[]byte("x")}}, late},
	} {
		s := session(t, &Config{TCP: &tt.tcp}, l.Addr().String())
		for range 2 {
			ctx, cancel := context.WithTimeout(context.Background(), 200*time.Millisecond)
			if got := s.c.check(ctx, s); got.outcome != tt.want {
				t.Errorf("%s: %+v", tt.name, got)
			}
			cancel()
		}
	}
	addr := l.Addr().String()
	l.Close()
	s := session(t, &Config{TCP: &TCP{}}, addr)
	if got := s.once(); got.outcome != lost {
		t.Errorf("a refused connection: %+v", got)
	}
}

// FuzzServing: whatever a host answers, it is read without harm, and only SERVING is.
func FuzzServing(f *testing.F) {
	f.Add([]byte{0, 0, 0, 0, 2, 8, 1})
	f.Add([]byte{0, 0, 0, 0, 0})
	f.Add([]byte{0, 0, 0, 0, 5, 18, 1, 'a', 8, 1})
	f.Add([]byte{0, 0, 0, 0, 3, 18, 255, 1})
	f.Fuzz(func(t *testing.T, b []byte) {
		if serving(b) && len(b) < 7 {
			t.Errorf("%x is no answer", b)
		}
	})
}
