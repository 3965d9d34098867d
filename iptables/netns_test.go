package iptables

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"os/exec"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// space is a network namespace that lives as long as its thread: nothing needs
// to be cleaned up, whatever the test does.
type space struct {
	t    *testing.T
	work chan func()
	fd   int
}

// newSpace makes a network namespace with lo up. It skips the test without root;
// the same kernel behaviour is then covered by the tests of cmd/mecha/pod, which
// make a user namespace first.
func newSpace(t *testing.T) *space {
	t.Helper()
	s := &space{t: t, work: make(chan func()), fd: -1}
	started := make(chan error)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		runtime.LockOSThread() // never unlocked: the thread dies with the goroutine
		err := unix.Unshare(unix.CLONE_NEWNET)
		if err == nil {
			s.fd, err = unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
		}
		started <- err
		if err != nil {
			return
		}
		defer unix.Close(s.fd) //nolint:errcheck // a namespace reference
		for f := range s.work {
			f()
		}
	}()
	if err := <-started; errors.Is(err, unix.EPERM) {
		t.Skip("needs root: ", err)
	} else if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { close(s.work); <-ended })
	s.do(func() { s.must(setUp("lo")) })
	return s
}

// do runs f on a thread inside the namespace. f must not start the goroutines
// that open sockets, and must not call t.Fatal.
func (s *space) do(f func()) {
	s.t.Helper()
	done := make(chan struct{})
	s.work <- func() { defer close(done); f() }
	<-done
}

func (s *space) must(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Error(err)
	}
}

func setUp(name string) error {
	l, err := netlink.LinkByName(name)
	if err != nil {
		return err
	}
	return netlink.LinkSetUp(l)
}

// cable connects two namespaces with eth0 on both sides and gives each its
// addresses; the other side is the default route.
func cable(t *testing.T, a, b *space, aAddrs, bAddrs []string) {
	t.Helper()
	a.do(func() {
		a.must(netlink.LinkAdd(&netlink.Veth{
			LinkAttrs: netlink.LinkAttrs{Name: "eth0"}, PeerName: "eth0", PeerNamespace: netlink.NsFd(b.fd),
		}))
	})
	for _, end := range []struct {
		s           *space
		mine, other []string
	}{{a, aAddrs, bAddrs}, {b, bAddrs, aAddrs}} {
		end.s.do(func() {
			l, err := netlink.LinkByName("eth0")
			if err != nil {
				end.s.must(err)
				return
			}
			for _, x := range end.mine {
				addr, err := netlink.ParseAddr(x)
				end.s.must(err)
				addr.Flags = unix.IFA_F_NODAD
				end.s.must(netlink.AddrAdd(l, addr))
			}
			end.s.must(netlink.LinkSetUp(l))
			for _, x := range end.other {
				gw := netip.MustParsePrefix(x).Addr().AsSlice()
				end.s.must(netlink.RouteAdd(&netlink.Route{LinkIndex: l.Attrs().Index, Gw: gw}))
			}
		})
	}
	if t.Failed() {
		t.FailNow()
	}
}

// arrival is a connection as the listener on one port saw it.
type arrival struct {
	port    uint16         // where it was accepted
	wanted  netip.AddrPort // original destination
	from    netip.AddrPort
	release func()
}

// mouth accepts connections on one port of a namespace, reports them and
// answers with one byte so that a client knows it is talking to someone.
type mouth struct {
	*net.TCPListener
	got chan arrival
}

func (s *space) listen(port uint16, transparent bool) *mouth {
	s.t.Helper()
	m := &mouth{got: make(chan arrival, 16)}
	var err error
	s.do(func() { m.TCPListener, err = listen(context.Background(), port, transparent) })
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { m.Close() })
	go func() {
		for {
			conn, err := m.AcceptTCP()
			if err != nil {
				return
			}
			dst, err := OriginalDst(conn)
			from := conn.RemoteAddr().(*net.TCPAddr).AddrPort()
			m.got <- arrival{
				port: port, wanted: dst, from: netip.AddrPortFrom(from.Addr().Unmap(), from.Port()),
				release: func() { conn.Close() },
			}
			// The client has its answer only after the arrival is on record.
			if _, werr := conn.Write([]byte{'.'}); err != nil || werr != nil {
				s.t.Error(err, werr)
			}
		}
	}()
	return m
}

// dialAs opens a connection inside the namespace and reads the greeting byte.
func (s *space) dialAs(who identity, dst string, control func(fd int) error, within time.Duration) error {
	s.t.Helper()
	var err error
	s.do(func() { err = greet(who, dst, control, within) })
	return err
}

const (
	testTimeout = 3 * time.Second
	// nowhereTimeout is for connections that should get no answer: a wrong one
	// crosses one virtual cable and would be here at once.
	nowhereTimeout = 150 * time.Millisecond
)

func greet(who identity, dst string, control func(fd int) error, within time.Duration) error {
	ctx, cancel := context.WithTimeout(context.Background(), within)
	defer cancel()
	d := net.Dialer{Control: func(_, _ string, rc syscall.RawConn) (err error) {
		cerr := rc.Control(func(fd uintptr) {
			if who.mark != 0 {
				err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_MARK, int(who.mark))
			}
			if control != nil && err == nil {
				err = control(int(fd))
			}
		})
		return errors.Join(cerr, err)
	}}
	if who.gid != nil {
		old, _ := unix.SetfsgidRetGid(int(*who.gid))
		defer unix.SetfsgidRetGid(old)
	}
	if who.uid != nil {
		old, _ := unix.SetfsuidRetUid(int(*who.uid))
		defer unix.SetfsuidRetUid(old)
	}
	conn, err := d.DialContext(ctx, "tcp", dst)
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := conn.SetReadDeadline(time.Now().Add(within)); err != nil {
		return err
	}
	_, err = io.ReadFull(conn, make([]byte, 1))
	return err
}

func requireProgram(t *testing.T, names ...string) {
	t.Helper()
	for _, n := range names {
		if _, err := exec.LookPath(n); err != nil {
			t.Skipf("%s is not installed", n)
		}
	}
}

func uidp(id uint32) identity { return identity{uid: &id} }
func gidp(id uint32) identity { return identity{gid: &id} }
