package admin

import (
	"context"
	"net/http"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/mecha-mesh/mecha/proxy/meta"
	"github.com/mecha-mesh/mecha/proxy/stats"
)

// changing is a process whose state changes.
type changing struct {
	process
	live atomic.Bool
}

func (c *changing) State() State {
	if c.live.Load() {
		return Live
	}
	return Initializing
}

func serveHealth(t *testing.T) (*changing, string) {
	t.Helper()
	source := &changing{}
	s := New(Config{Stats: stats.NewStore(), Source: source})
	l, err := Listen(meta.Addr{AddrPort: netip.MustParseAddrPort("127.0.0.1:0")}, 0)
	if err != nil {
		t.Fatal(err)
	}
	go s.Serve(l)
	t.Cleanup(func() { s.Close() })
	return source, l.Addr().String()
}

func healthClient(t *testing.T, addr string) (grpc_health_v1.HealthClient, context.Context) {
	t.Helper()
	cc, err := grpc.NewClient(addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	t.Cleanup(func() {
		cancel()
		cc.Close()
	})
	return grpc_health_v1.NewHealthClient(cc), ctx
}

// TestHealth asks as a kubelet does, with gRPC's own client.
func TestHealth(t *testing.T) {
	source, addr := serveHealth(t)
	client, ctx := healthClient(t, addr)
	ask := func(service string, want grpc_health_v1.HealthCheckResponse_ServingStatus) {
		t.Helper()
		r, err := client.Check(ctx, &grpc_health_v1.HealthCheckRequest{Service: service})
		if err != nil || r.Status != want {
			t.Errorf("%q: %v, %v; want %v", service, r.GetStatus(), err, want)
		}
	}
	ask("", grpc_health_v1.HealthCheckResponse_NOT_SERVING)
	ask("liveness", grpc_health_v1.HealthCheckResponse_SERVING)
	source.live.Store(true)
	ask("", grpc_health_v1.HealthCheckResponse_SERVING)
	ask("readiness", grpc_health_v1.HealthCheckResponse_SERVING)
	_, err := client.Check(ctx, &grpc_health_v1.HealthCheckRequest{Service: "nobody"})
	if status.Code(err) != codes.NotFound {
		t.Errorf("an unknown service: %v", err)
	}
	_, err = client.Check(ctx, &grpc_health_v1.HealthCheckRequest{Service: strings.Repeat("x", 10_000)})
	if status.Code(err) != codes.ResourceExhausted {
		t.Errorf("a large request: %v", err)
	}
}

// TestHealthWatch: who watches hears of changes, and only of them.
func TestHealthWatch(t *testing.T) {
	source, addr := serveHealth(t)
	client, ctx := healthClient(t, addr)
	for service, want := range map[string][]grpc_health_v1.HealthCheckResponse_ServingStatus{
		"":       {grpc_health_v1.HealthCheckResponse_NOT_SERVING, grpc_health_v1.HealthCheckResponse_SERVING},
		"nobody": {grpc_health_v1.HealthCheckResponse_SERVICE_UNKNOWN},
	} {
		source.live.Store(false)
		stream, err := client.Watch(ctx, &grpc_health_v1.HealthCheckRequest{Service: service})
		if err != nil {
			t.Fatal(err)
		}
		for _, w := range want {
			r, err := stream.Recv()
			if err != nil || r.Status != w {
				t.Fatalf("%q: %v, %v; want %v", service, r.GetStatus(), err, w)
			}
			source.live.Store(true)
		}
	}
}

// TestHealthWatchers: how many may watch is limited.
func TestHealthWatchers(t *testing.T) {
	_, addr := serveHealth(t)
	client, ctx := healthClient(t, addr)
	for range healthWatchers {
		stream, err := client.Watch(ctx, &grpc_health_v1.HealthCheckRequest{})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := stream.Recv(); err != nil {
			t.Fatal(err)
		}
	}
	stream, err := client.Watch(ctx, &grpc_health_v1.HealthCheckRequest{})
	if err == nil {
		_, err = stream.Recv()
	}
	if status.Code(err) != codes.ResourceExhausted {
		t.Errorf("one too many: %v", err)
	}
}

// TestHealthOverHTTP1 is refused with a word.
func TestHealthOverHTTP1(t *testing.T) {
	_, addr := serveHealth(t)
	resp, err := http.Post("http://"+addr+"/grpc.health.v1.Health/Check", "application/grpc", strings.NewReader("\x00\x00\x00\x00\x00"))
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusUnsupportedMediaType {
		t.Errorf("%s", resp.Status)
	}
}

func FuzzHealthServiceName(f *testing.F) {
	f.Add([]byte("\x0a\x02ab"))
	f.Add([]byte("\x10\x05\x0a\x01x\x1d1234\x212345678\x0a\x01y"))
	f.Add([]byte("\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		got, err := healthServiceName(raw)
		var want grpc_health_v1.HealthCheckRequest
		if proto.Unmarshal(raw, &want) == nil && err == nil && got != want.Service {
			t.Errorf("%q, want %q", got, want.Service)
		}
	})
}
