package netio

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mecha-mesh/mecha/proxy/filter/filtertest/ports"
	"github.com/mecha-mesh/mecha/proxy/meta"
)

func ip(s string) meta.Addr { return meta.Addr{AddrPort: netip.MustParseAddrPort(s)} }

// exchange dials the listener and returns what Accept gave.
func exchange(t *testing.T, l *Listener, to meta.Addr) (client, server *Conn) {
	t.Helper()
	got := make(chan net.Conn, 1)
	go func() {
		c, err := l.Accept()
		if err != nil {
			t.Error(err)
		}
		got <- c
	}()
	client, err := Dial(context.Background(), DialOptions{Addr: to, Timeout: 20 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	server = NewConn(<-got)
	t.Cleanup(func() { client.Close(); server.Close() })
	return client, server
}

func listen(t *testing.T, o ListenOptions) *Listener {
	t.Helper()
	l, err := Listen(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

func TestListenFamilies(t *testing.T) {
	t.Chdir(t.TempDir())
	for _, o := range []ListenOptions{
		{Addr: ip("127.0.0.1:0")},
		{Addr: ip("[::1]:0")},
		{Addr: ip("127.0.0.1:0"), ReusePort: true, Backlog: 5, DeferAccept: 1},
		{Addr: meta.Addr{Path: filepath.Join(t.TempDir(), "s")}, Mode: 0o600},
		{Addr: meta.Addr{Path: "./relative"}},
		{Addr: meta.Addr{Path: "@mecha-netio-test"}},
	} {
		l := listen(t, o)
		if o.DeferAccept > 0 {
			continue // accepts only after data
		}
		client, server := exchange(t, l, l.Addr())
		if !client.Direct() || !server.Direct() {
			t.Errorf("%v: not direct", o.Addr)
		}
	}
	if st, err := os.Stat("relative"); err != nil || st.Mode().Type() != os.ModeSocket {
		t.Errorf("the relative path: %v, %v", st, err)
	}
}

func TestListenDualStack(t *testing.T) {
	both := listen(t, ListenOptions{Addr: ip("[::]:0"), DualStack: true})
	port := both.Addr().Port()
	_, server := exchange(t, both, meta.Addr{AddrPort: netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), port)})
	if got := meta.AddrOf(server.LocalAddr()); !got.Addr().Is4() {
		t.Errorf("local address %v of an IPv4 connection", got)
	}
	exchange(t, both, meta.Addr{AddrPort: netip.AddrPortFrom(netip.IPv6Loopback(), port)})

	// Of port 0 the kernel makes one that another process may have for IPv4.
	only6 := listen(t, ListenOptions{Addr: ip(fmt.Sprintf("[::]:%d", ports.Free(t)))})
	_, err := Dial(context.Background(), DialOptions{Addr: meta.Addr{AddrPort: netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), only6.Addr().Port())}})
	if !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("IPv4 to an IPv6 listener: %v", err)
	}
}

func TestListenUnixSocketFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	stale, err := net.ListenUnix("unix", &net.UnixAddr{Name: path})
	if err != nil {
		t.Fatal(err)
	}
	stale.SetUnlinkOnClose(false)
	if _, err := Listen(ListenOptions{Addr: meta.Addr{Path: path}}); !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("a socket in use was taken: %v", err)
	}
	stale.Close()
	l := listen(t, ListenOptions{Addr: meta.Addr{Path: path}, Mode: 0o640})
	if st, err := os.Stat(path); err != nil || st.Mode().Perm() != 0o640 {
		t.Errorf("mode %v, %v", st.Mode(), err)
	}
	exchange(t, l, meta.Addr{Path: path})

	file := filepath.Join(t.TempDir(), "precious")
	os.WriteFile(file, []byte("data"), 0o600)
	if _, err := Listen(ListenOptions{Addr: meta.Addr{Path: file}}); err == nil || !strings.Contains(err.Error(), "is no socket") {
		t.Errorf("got %v", err)
	}
	if got, _ := os.ReadFile(file); string(got) != "data" {
		t.Error("the file is gone")
	}
}

func TestListenReusePort(t *testing.T) {
	a := listen(t, ListenOptions{Addr: ip("127.0.0.1:0"), ReusePort: true})
	listen(t, ListenOptions{Addr: a.Addr(), ReusePort: true})
	if _, err := Listen(ListenOptions{Addr: a.Addr()}); !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("got %v", err)
	}
}

func TestDialOptions(t *testing.T) {
	l := listen(t, ListenOptions{Addr: ip("127.0.0.1:0")})
	accepted := make(chan meta.Addr, 1)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			accepted <- meta.AddrOf(c.RemoteAddr())
			defer c.Close()
		}
	}()
	dial := func(o DialOptions) *Conn {
		t.Helper()
		o.Addr = l.Addr()
		c, err := Dial(context.Background(), o)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		return c
	}
	option := func(c *Conn, level, name int) int {
		v := -1
		c.raw.Control(func(fd uintptr) { v, _ = unix.GetsockoptInt(int(fd), level, name) })
		return v
	}
	c := dial(DialOptions{})
	<-accepted
	if option(c, unix.IPPROTO_TCP, unix.TCP_NODELAY) == 0 || option(c, unix.SOL_SOCKET, unix.SO_KEEPALIVE) != 0 {
		t.Error("by default there is no delay and no keep-alive")
	}
	var o DialOptions
	o.Bind.V4 = netip.MustParseAddrPort("127.0.0.6:0")
	o.Delay = true
	o.KeepAlive = KeepAlive{Enable: true, Idle: 7 * time.Second, Interval: 3 * time.Second, Probes: 4}
	c = dial(o)
	if from := <-accepted; from.Addr() != netip.MustParseAddr("127.0.0.6") {
		t.Errorf("came from %v", from)
	}
	for name, want := range map[int]int{unix.TCP_NODELAY: 0, unix.TCP_KEEPIDLE: 7, unix.TCP_KEEPINTVL: 3, unix.TCP_KEEPCNT: 4} {
		if got := option(c, unix.IPPROTO_TCP, name); got != want {
			t.Errorf("option %d is %d, want %d", name, got, want)
		}
	}
	if os.Getuid() == 0 {
		c = dial(DialOptions{Mark: 1337})
		<-accepted
		if got := option(c, unix.SOL_SOCKET, unix.SO_MARK); got != 1337 {
			t.Errorf("mark %d", got)
		}
	}
	o.Bind.V4, o.Bind.Freebind = netip.MustParseAddrPort("192.0.2.7:0"), true
	o.Addr, o.Timeout = l.Addr(), 50*time.Millisecond
	if _, err := Dial(context.Background(), o); err == nil || errors.Is(err, syscall.EADDRNOTAVAIL) {
		t.Errorf("an address that the machine does not have: %v", err) // no answer can arrive, but it binds
	}
}

func TestDialFails(t *testing.T) {
	l := listen(t, ListenOptions{Addr: ip("127.0.0.1:0")})
	l.Close()
	if _, err := Dial(context.Background(), DialOptions{Addr: l.Addr()}); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("got %v", err)
	}
	if _, err := Dial(context.Background(), DialOptions{}); err == nil {
		t.Error("dialled no address")
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := Dial(ctx, DialOptions{Addr: l.Addr()}); err == nil {
		t.Error("dialled after the context had ended")
	}
	if _, err := Dial(context.Background(), DialOptions{Addr: meta.Addr{Path: "/nonexistent/s"}}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v", err)
	}
}
