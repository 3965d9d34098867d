package cluster

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mecha-mesh/mecha/proxy/meta"
)

// closedPort returns an address where nobody listens.
func closedPort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close() //nolint:errcheck // nothing was served
	return l.Addr().String()
}

func TestRefusedConnections(t *testing.T) {
	c := mustSet(t, newTestManager(t, Options{}), staticSpec(hostAt(closedPort(t))))
	h := mustPick(t, c)
	var failed *ConnectError
	_, err := c.Acquire(context.Background(), h, &Attempt{}, soon())
	if !errors.As(err, &failed) || failed.Timeout || !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("the error is %v, want a refusal", err)
	}
	if _, err := c.Dial(context.Background(), h, &Attempt{}); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("the error is %v, want a refusal", err)
	}
	// As Envoy counts them: a refusal is a connection that the host ended.
	st := c.Stats()
	for _, tc := range []struct {
		name string
		got  uint64
		want uint64
	}{
		{"upstream_cx_total", st.UpstreamCxTotal.Value(), 2},
		{"upstream_cx_http1_total", st.UpstreamCxHTTP1Total.Value(), 1},
		{"upstream_cx_connect_fail", st.UpstreamCxConnectFail.Value(), 2},
		{"upstream_cx_connect_timeout", st.UpstreamCxConnectTimeout.Value(), 0},
		{"upstream_cx_destroy", st.UpstreamCxDestroy.Value(), 2},
		{"upstream_cx_destroy_remote", st.UpstreamCxDestroyRemote.Value(), 2},
		{"upstream_rq_pending_total", st.UpstreamRqPendingTotal.Value(), 1},
		{"upstream_rq_pending_failure_eject", st.UpstreamRqPendingFailureEject.Value(), 1},
		{"upstream_rq_total", st.UpstreamRqTotal.Value(), 0},
		{"upstream_cx_active", uint64(st.UpstreamCxActive.Value()), 0},
		{"host cx_connect_fail", h.Stats().CxConnectFail.Value(), 2},
		{"host cx_active", uint64(h.Stats().CxActive.Value()), 0},
	} {
		if tc.got != tc.want {
			t.Errorf("%s is %d, want %d", tc.name, tc.got, tc.want)
		}
	}
}

// A host whose queue of connections is full drops what it is sent.
func TestAHostThatDoesNotAnswer(t *testing.T) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd) //nolint:errcheck // nothing was served
	if err := errors.Join(unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}), unix.Listen(fd, 0)); err != nil {
		t.Fatal(err)
	}
	sa, err := unix.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	addr := netip.AddrPortFrom(netip.AddrFrom4(sa.(*unix.SockaddrInet4).Addr), uint16(sa.(*unix.SockaddrInet4).Port))
	s := staticSpec(HostSpec{Addr: meta.Addr{AddrPort: addr}})
	s.ConnectTimeout = 100 * time.Millisecond
	c := mustSet(t, newTestManager(t, Options{}), s)
	h := mustPick(t, c)
	var failed *ConnectError
	for range 8 { // the queue takes one or two
		conn, err := c.Dial(context.Background(), h, &Attempt{})
		if err != nil {
			if !errors.As(err, &failed) || !failed.Timeout {
				t.Fatalf("the error is %v, want a connection timeout", err)
			}
			break
		}
		defer conn.Close() //nolint:errcheck // nothing was sent
	}
	if failed == nil {
		t.Fatal("the queue of connections takes everything")
	}
	_, err = c.Acquire(context.Background(), h, &Attempt{}, soon())
	if !errors.As(err, &failed) || !failed.Timeout {
		t.Errorf("the error is %v, want a connection timeout", err)
	}
}

// Every connection is reset as soon as it is accepted. The requests fail, nothing
// else does.
func TestResetOnAccept(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			_ = conn.(*net.TCPConn).SetLinger(0)
			_ = conn.Close()
		}
	}()
	defer func() { _ = l.Close(); <-done }()
	c := mustSet(t, newTestManager(t, Options{}), staticSpec(hostAt(l.Addr().String())))
	h := mustPick(t, c)
	for range 20 {
		conn, err := c.Acquire(context.Background(), h, &Attempt{}, soon())
		if err != nil { // the reset may come before connect is done
			continue
		}
		if _, err := exchange(conn); err == nil {
			t.Error("an exchange succeeded on a reset connection")
		}
		c.Abandon(conn)
	}
	st := c.Stats()
	if a, b := st.UpstreamCxActive.Value(), h.Stats().CxActive.Value(); a != 0 || b != 0 {
		t.Errorf("upstream_cx_active is %d, that of the host %d, want 0", a, b)
	}
}

func TestUnixSocketHosts(t *testing.T) {
	dir, err := os.MkdirTemp("", "cluster") // short, for sun_path
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir) //nolint:errcheck // a temporary folder
	path := dir + "/s"
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close() //nolint:errcheck // nothing was served
	c := mustSet(t, newTestManager(t, Options{}), staticSpec(HostSpec{Addr: meta.Addr{Path: path}}))
	conn := mustAcquire(t, c, mustPick(t, c))
	if conn.Host.Addr.Path != path {
		t.Errorf("connected to %v", conn.Host.Addr)
	}
	c.Release(conn, true)
}

func TestBindSource(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close() //nolint:errcheck // nothing was served
	s := staticSpec(hostAt(l.Addr().String()))
	s.Bind = &Bind{V4: netip.MustParseAddrPort("127.0.0.6:0")}
	c := mustSet(t, newTestManager(t, Options{}), s)
	tc, err := c.Dial(context.Background(), mustPick(t, c), &Attempt{})
	if err != nil {
		t.Fatal(err)
	}
	defer tc.Close() //nolint:errcheck // nothing was sent
	peer, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer peer.Close() //nolint:errcheck // nothing was sent
	if got := meta.AddrOf(peer.RemoteAddr()); got.Addr().String() != "127.0.0.6" || got != tc.Local {
		t.Errorf("the connection comes from %v, Local says %v, want 127.0.0.6", got, tc.Local)
	}

	s2 := *s
	s2.Bind, s2.Hash = &Bind{V4: netip.MustParseAddrPort("203.0.113.1:0")}, 2
	c = mustSet(t, c.m, &s2)
	if _, err := c.Dial(context.Background(), mustPick(t, c), &Attempt{}); err == nil || c.Stats().BindErrors.Value() != 1 {
		t.Errorf("a source address that is not ours: %v, bind_errors %d", err, c.Stats().BindErrors.Value())
	}
}

func TestRawConnections(t *testing.T) {
	o := newOrigin(t)
	s := staticSpec(o.host())
	s.Breakers[Default].MaxConnections = 1
	c := mustSet(t, newTestManager(t, Options{}), s)
	h := mustPick(t, c)
	conn, err := c.Dial(context.Background(), h, &Attempt{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Dial(context.Background(), h, &Attempt{}); !errors.Is(err, ErrOverflow) {
		t.Errorf("the error is %v, want ErrOverflow", err)
	}
	// A request waits for the place that the raw connection has.
	ch := acquireLater(c, h, soon())
	eventually(t, "the request queues", waiting(c, 1))
	conn.CountBytes(10, 20)
	_ = conn.Close()
	_ = conn.Close()
	got := receive(t, ch)
	if got.err != nil {
		t.Fatal(got.err)
	}
	c.Release(got.conn, true)
	st := c.Stats()
	if st.UpstreamCxOverflow.Value() != 2 || st.UpstreamCxRxBytesTotal.Value() != 10 || st.UpstreamCxTxBytesTotal.Value() != 20 || st.UpstreamCxActive.Value() != 1 {
		t.Error("the connection is not accounted for")
	}
	if n := st.UpstreamRqActive.Value(); n != 0 {
		t.Errorf("upstream_rq_active is %d, want 0", n)
	}
}
