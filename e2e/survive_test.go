package e2e

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/mecha-mesh/mecha/xds/ads"
	"github.com/mecha-mesh/mecha/xds/xdstest"
)

// survivors is how many sessions TestSurvivors opens, fewer where descriptors are
// short: each takes two of mecha and two of the test.
const (
	survivors    = 10_000
	fewestAtAll  = 1_000
	otherwiseFDs = 1_000
)

// TestSurvivors: ten thousand WebSocket and TCP sessions live through a thousand
// changes of listeners, which change their chains, what chains do not depend on, and
// other listeners. It has the process for itself, unlike those in parallel.
func TestSurvivors(t *testing.T) {
	n := affordable(t) // before mecha starts, which inherits the limit
	f := openField(t)
	all := f.openAll(n)
	const pushes = 1000
	before := 0
	for i := range pushes {
		f.push(i)
		if i%100 == 0 { // these live in one of the chains in between
			all = append(all, f.open(i), f.open(i+1))
			f.talk(all[len(all)-100:])
		}
		if i%200 == 199 {
			t.Logf("%d pushes, RSS %d KiB, %d KiB of it alive", i+1, f.mecha.rss(), f.mecha.live())
		}
		if i == pushes/5 { // buffers and tables have found their size
			before = f.mecha.live()
		}
	}
	wait(1500 * time.Millisecond) // past the drain time of the last change
	f.talk(all)
	after := f.mecha.live()
	t.Logf("%d sessions after %d pushes; %d KiB were alive after a fifth of them, %d KiB at the end", len(all), pushes, before, after)
	if after > before+before/20 && !raceBuilt(t) {
		t.Errorf("what is alive has grown from %d to %d KiB", before, after)
	}
	for _, s := range all {
		s.Close()
	}
	f.mecha.until("server.total_connections", 0)
	f.mecha.until("listener_manager.total_filter_chains_draining", 0)
	if n := f.mecha.stat("listener_manager.listener_create_failure"); n != 0 {
		t.Errorf("%d listeners could not be made", n)
	}
}

// live is what of the heap is in use after a collection, in KiB.
func (s *sidecar) live() int {
	s.get("/debug/pprof/heap?gc=1")
	return int(s.stat("server.memory_allocated") >> 10)
}

// affordable raises the limit of descriptors as far as it goes, and returns how many
// sessions there can be.
func affordable(t *testing.T) int {
	t.Helper()
	want := uint64(2*survivors + otherwiseFDs)
	var lim syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &lim); err != nil {
		t.Fatal(err)
	}
	if lim.Max < want { // root may
		if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &syscall.Rlimit{Cur: want, Max: want}); err == nil {
			return survivors
		}
	}
	n := (int(min(lim.Max, want)) - otherwiseFDs) / 2
	switch {
	case n < fewestAtAll:
		t.Skipf("%d descriptors are not enough for %d sessions", lim.Max, fewestAtAll)
	case n < survivors:
		t.Logf("SCALED DOWN: %d sessions instead of %d, because a process may have %d descriptors", n, survivors, lim.Max)
	}
	return n
}

// field is a mecha with a listener for WebSocket and one for TCP.
type field struct {
	t        *testing.T
	plane    *xdstest.Server
	mecha    *sidecar
	web, tcp uint32 // ports
	other    uint32
	acked    int
}

func openField(t *testing.T) *field {
	t.Helper()
	f := &field{t: t, plane: xdstest.New(t), web: freePort(t), tcp: freePort(t), other: freePort(t)}
	release := f.plane.Hold()
	f.plane.Set(roomy("ws", startEcho(t)), roomy("tcp", startTCPEcho(t)),
		xdstest.Route("shop", "ws"), f.webListener(0, 0), f.tcpListener(0, 0))
	release()
	f.mecha = startMecha(t, overADS(f.plane.Address(), true), "--drain-time-s", "1", "--drain-strategy", "immediate")
	f.mecha.ready()
	f.acked = count(f.plane, ads.ListenerType)
	return f
}

// roomy is a cluster without limits.
func roomy(name string, port uint32) *clusterv3.Cluster {
	c := xdstest.StaticCluster(name, "127.0.0.1", port)
	most := wrapperspb.UInt32(1 << 20)
	c.ConnectTimeout = durationpb.New(patience)
	c.CircuitBreakers = &clusterv3.CircuitBreakers{Thresholds: []*clusterv3.CircuitBreakers_Thresholds{{
		MaxConnections: most, MaxPendingRequests: most, MaxRequests: most,
	}}}
	return c
}

// unrelated changes what no chain depends on.
func unrelated(l *listenerv3.Listener, n int) *listenerv3.Listener {
	l.ListenerFiltersTimeout = durationpb.New(time.Duration(n+1) * time.Second)
	l.IgnoreGlobalConnLimit = n%2 == 1
	return l
}

func (f *field) webListener(chain, rest int) *listenerv3.Listener {
	l := xdstest.HTTPListener(f.t, "web", "127.0.0.1", f.web, "shop")
	hcm := &hcmv3.HttpConnectionManager{}
	if err := l.FilterChains[0].Filters[0].GetTypedConfig().UnmarshalTo(hcm); err != nil {
		f.t.Fatal(err)
	}
	hcm.UpgradeConfigs = []*hcmv3.HttpConnectionManager_UpgradeConfig{{UpgradeType: "websocket"}}
	hcm.ServerName = fmt.Sprint("v", chain)
	hcm.StreamIdleTimeout = durationpb.New(0)
	l.FilterChains[0].Filters[0].ConfigType = &listenerv3.Filter_TypedConfig{TypedConfig: xdstest.Pack(f.t, hcm)}
	return unrelated(l, rest)
}

func (f *field) tcpListener(chain, rest int) *listenerv3.Listener {
	l := xdstest.TCPListener(f.t, "tcp", "127.0.0.1", f.tcp, "tcp")
	l.FilterChains[0].Name = fmt.Sprint("v", chain)
	return unrelated(l, rest)
}

// push changes one listener and waits until mecha has accepted it.
func (f *field) push(i int) {
	n := i / 5
	f.acked++
	switch i % 5 {
	case 0:
		f.plane.Set(f.webListener(n+1, n))
	case 1:
		f.plane.Set(f.tcpListener(n+1, n))
	case 2:
		f.plane.Set(f.webListener(n+1, n+1))
	case 3:
		f.plane.Set(f.tcpListener(n+1, n+1))
	default:
		other := xdstest.TCPListener(f.t, "other", "127.0.0.1", f.other, "tcp")
		other.TcpBacklogSize = wrapperspb.UInt32(uint32(n + 1)) // another socket each time
		if n%3 == 2 {
			f.plane.Remove(ads.ListenerType, "other")
		} else {
			f.plane.Set(other)
		}
	}
	f.plane.Await("an update of a listener", acks(ads.ListenerType, f.acked))
}

// open opens a session, of either kind in turn.
func (f *field) open(i int) *session {
	s, err := f.tryOpen(i)
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(func() { s.Close() })
	return s
}

func (f *field) tryOpen(i int) (*session, error) {
	port := f.web
	if i%2 == 1 {
		port = f.tcp
	}
	c, err := net.DialTimeout("tcp", local(port), 2*patience)
	if err != nil {
		return nil, err
	}
	s := &session{Conn: c, r: bufio.NewReaderSize(c, 512)}
	if port == f.tcp {
		return s, nil
	}
	_ = c.SetDeadline(time.Now().Add(2 * patience)) // fails only on a closed socket
	if _, err := io.WriteString(c, "GET /chat HTTP/1.1\r\nhost: a\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\r\n"); err != nil {
		return nil, err
	}
	a, err := http.ReadResponse(s.r, nil)
	if err == nil && a.StatusCode != 101 {
		err = errors.New(a.Status)
	}
	if err != nil {
		return nil, fmt.Errorf("the upgrade: %w", err)
	}
	return s, nil
}

func (f *field) openAll(n int) []*session {
	f.t.Helper()
	all := make([]*session, n)
	begun := time.Now()
	errs := inParallel(n, func(i int) (err error) {
		if all[i], err = f.tryOpen(i); err != nil {
			return err
		}
		return all[i].say()
	})
	f.t.Cleanup(func() {
		for _, s := range all {
			if s != nil {
				s.Close()
			}
		}
	})
	if len(errs) > 0 {
		f.t.Fatalf("%d of %d sessions cannot be opened: %v", len(errs), n, errs[0])
	}
	f.t.Logf("%d sessions are open after %v, RSS %d KiB", n, time.Since(begun), f.mecha.rss())
	return all
}

// talk has each session carry a message.
func (f *field) talk(all []*session) {
	f.t.Helper()
	if errs := inParallel(len(all), func(i int) error { return all[i].say() }); len(errs) > 0 {
		f.t.Fatalf("%d of %d sessions were cut: %v", len(errs), len(all), errs[0])
	}
}

// say is echo for who cannot fail a test.
func (s *session) say() error {
	s.n++
	want := [4]byte{byte(s.n >> 24), byte(s.n >> 16), byte(s.n >> 8), byte(s.n)}
	var got [4]byte
	_ = s.SetDeadline(time.Now().Add(2 * patience)) // fails only on a closed socket
	_, err := s.Write(want[:])
	if err == nil {
		_, err = io.ReadFull(s.r, got[:])
	}
	if err == nil && got != want {
		err = errors.New("another message came back")
	}
	if err != nil {
		return fmt.Errorf("%v, message %d: %w", s.RemoteAddr(), s.n, err)
	}
	return nil
}

// inParallel calls f with 0 to n-1, 32 at a time, and returns its errors.
func inParallel(n int, f func(int) error) (errs []error) {
	var next atomic.Int64
	var mu sync.Mutex
	var wg sync.WaitGroup
	for range min(n, 32) {
		wg.Go(func() {
			for i := int(next.Add(1)) - 1; i < n; i = int(next.Add(1)) - 1 {
				if err := f(i); err != nil {
					mu.Lock()
					errs = append(errs, err)
					mu.Unlock()
				}
			}
		})
	}
	wg.Wait()
	return errs
}
