package ads_test

import (
	"context"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/mecha-mesh/mecha/xds/ads"
	"github.com/mecha-mesh/mecha/xds/xdstest"
)

// table is a handler that keeps what it is given, as a data plane would, and
// refuses bodies that are no protobuf. It stands for the code above the client.
type table struct {
	mu      sync.Mutex
	have    map[string]map[string]string // type -> name -> body
	applied int
	expired []string
	onApply func(ads.Update)
	changed chan struct{}
}

func newTable() *table {
	return &table{have: map[string]map[string]string{}, changed: make(chan struct{}, 1)}
}

func (h *table) Apply(u ads.Update) []ads.Refusal {
	h.mu.Lock()
	m := h.have[u.TypeURL]
	if m == nil {
		m = map[string]string{}
		h.have[u.TypeURL] = m
	}
	var refused []ads.Refusal
	for _, r := range u.Changed {
		if strings.Contains(string(r.Body.GetValue()), "BROKEN") {
			refused = append(refused, ads.Refusal{Name: r.Name, Err: errors.New("lb_policy: not understood")})
			continue
		}
		m[r.Name] = string(r.Body.GetValue())
	}
	for _, name := range u.Removed {
		delete(m, name)
	}
	h.applied++
	onApply := h.onApply
	h.mu.Unlock()
	if onApply != nil {
		onApply(u)
	}
	h.signal()
	return refused
}

func (h *table) FetchTimedOut(typeURL, name string) {
	h.mu.Lock()
	h.expired = append(h.expired, ads.ShortType(typeURL)+"/"+name)
	h.mu.Unlock()
	h.signal()
}

func (h *table) signal() {
	select {
	case h.changed <- struct{}{}:
	default:
	}
}

// until waits for a state of the table.
func (h *table) until(t *testing.T, what string, ok func(h *table) bool) {
	t.Helper()
	deadline := time.After(10 * time.Second)
	for {
		h.mu.Lock()
		done := ok(h)
		h.mu.Unlock()
		if done {
			return
		}
		select {
		case <-h.changed:
		case <-deadline:
			h.mu.Lock()
			defer h.mu.Unlock()
			t.Fatalf("waited 10 s for %s; have %v", what, maps.Collect(func(yield func(string, int) bool) {
				for k, v := range h.have {
					yield(ads.ShortType(k), len(v))
				}
			}))
		}
	}
}

func (h *table) untilHas(t *testing.T, typeURL string, names ...string) {
	t.Helper()
	h.until(t, ads.ShortType(typeURL)+" "+strings.Join(names, ","), func(h *table) bool {
		if len(h.have[typeURL]) != len(names) {
			return false
		}
		for _, n := range names {
			if _, ok := h.have[typeURL][n]; !ok {
				return false
			}
		}
		return true
	})
}

func plain() []grpc.DialOption {
	return []grpc.DialOption{grpc.WithTransportCredentials(insecure.NewCredentials())}
}

// start runs a client until the test ends, and checks that it leaves no goroutine.
func start(t *testing.T, v ads.Variant, h ads.Handler, addresses ...string) *ads.Client {
	t.Helper()
	return startWith(t, ads.Config{
		Addresses: addresses, Variant: v, Handler: h, DialOptions: plain(), NodeOnFirstMessageOnly: true,
	})
}

func startWith(t *testing.T, cfg ads.Config) *ads.Client {
	t.Helper()
	cfg.Node = &corev3.Node{Id: "sidecar~1", Cluster: "shop"}
	cfg.Backoff = ads.Backoff{Base: 10 * time.Millisecond, Max: 50 * time.Millisecond}
	c, err := ads.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- c.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		select {
		case err := <-done:
			if err != nil {
				t.Errorf("Run: %v", err)
			}
		case <-time.After(10 * time.Second):
			t.Error("Run did not return")
		}
		noGoroutineOf(t, "xds/ads.", "grpc.(*ccBalancerWrapper)", "transport.(*http2Client)")
	})
	return c
}

// noGoroutineOf fails the test when goroutines with these frames do not end.
func noGoroutineOf(t *testing.T, frames ...string) {
	t.Helper()
	deadline := time.Now().Add(5 * time.Second)
	for {
		buf := make([]byte, 1<<20)
		var left []string
		for g := range strings.SplitSeq(string(buf[:runtime.Stack(buf, true)]), "\n\n") {
			for _, f := range frames {
				if strings.Contains(g, f) && !strings.Contains(g, "noGoroutineOf") {
					left = append(left, g)
					break
				}
			}
		}
		if len(left) == 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Errorf("%d goroutines left:\n%s", len(left), strings.Join(left, "\n\n"))
			return
		}
		runtime.Gosched()
	}
}

func variants(t *testing.T, f func(t *testing.T, v ads.Variant)) {
	for _, v := range []ads.Variant{ads.SotW, ads.Delta} {
		t.Run(v.String(), func(t *testing.T) { f(t, v) })
	}
}

// dataPlane subscribes as a proxy does: CDS first; EDS and LDS once CDS is there;
// RDS once LDS is.
func dataPlane(t *testing.T, c **ads.Client) func(ads.Update) {
	return func(u ads.Update) {
		switch u.TypeURL {
		case ads.ClusterType:
			for _, r := range u.Changed {
				if strings.HasPrefix(r.Name, "eds-") {
					(*c).Subscribe(ads.EndpointType, 0, r.Name)
				}
			}
			for _, name := range u.Removed {
				(*c).Unsubscribe(ads.EndpointType, name)
			}
			(*c).Subscribe(ads.ListenerType, 0)
		case ads.ListenerType:
			(*c).Subscribe(ads.RouteType, 0, "routes")
		}
	}
}

func TestExchangeOverTCPAndUnixSockets(t *testing.T) {
	variants(t, func(t *testing.T, v ads.Variant) {
		for _, kind := range []string{"tcp", "unix", "relative", "abstract"} {
			t.Run(kind, func(t *testing.T) {
				address := "127.0.0.1:0"
				switch kind {
				case "unix":
					address = "unix:" + filepath.Join(t.TempDir(), "xds.sock")
				case "relative":
					t.Chdir(t.TempDir())
					if err := os.MkdirAll("etc/istio", 0o755); err != nil {
						t.Fatal(err)
					}
					address = "unix:./etc/istio/XDS"
				case "abstract":
					address = "unix:@mecha-ads-test-" + v.String()
				}
				s := xdstest.Listen(t, address)
				s.Set(xdstest.EDSCluster("eds-cart"), xdstest.StaticCluster("web", "127.0.0.1", 80),
					xdstest.Endpoints("eds-cart", xdstest.SocketAddress("10.0.0.1", 80)),
					xdstest.HTTPListener(t, "in", "127.0.0.1", 8080, "routes"), xdstest.Route("routes", "web"))
				h := newTable()
				var c *ads.Client
				h.onApply = dataPlane(t, &c)
				ready := make(chan struct{})
				inner := h.onApply
				h.onApply = func(u ads.Update) { <-ready; inner(u) }
				c = start(t, v, h, s.Address())
				close(ready)
				c.Subscribe(ads.ClusterType, 0)

				h.untilHas(t, ads.ClusterType, "eds-cart", "web")
				h.untilHas(t, ads.EndpointType, "eds-cart")
				h.untilHas(t, ads.ListenerType, "in")
				h.untilHas(t, ads.RouteType, "routes")
				s.Await("the ACK of RDS", func(r xdstest.Request) bool { return r.TypeURL == ads.RouteType && r.ACK() })
				for i, r := range s.Requests() {
					if want := map[bool]string{true: "sidecar~1"}[i == 0]; r.NodeID != want {
						t.Errorf("request %d carries node %q, want %q: it belongs to the first message only", i, r.NodeID, want)
					}
				}
			})
		}
	})
}
