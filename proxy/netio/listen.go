package netio

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/mecha-mesh/mecha/proxy/meta"
)

// ListenOptions is how a socket is bound.
type ListenOptions struct {
	// Addr is an IP address with its port (0 is any), or the path of a unix socket:
	// relative paths are those of the working directory, a leading '@' is the abstract
	// namespace.
	Addr meta.Addr
	// DualStack lets [::] take IPv4 connections, too (ipv4_compat).
	DualStack   bool
	ReusePort   bool
	Transparent bool // TPROXY: accept connections to any address
	// Multipath takes MPTCP connections beside those of plain TCP (RFC 8684). Where the
	// kernel has no MPTCP it takes plain ones only: see HasMultipath.
	Multipath bool
	Freebind  bool
	Backlog   int // 0 is the kernel's largest
	// FastOpen is the length of the queue of TCP Fast Open; 0 switches it off, nil leaves
	// it alone.
	FastOpen  *int
	KeepAlive KeepAlive // of the connections that are accepted
	// Options are set before bind; Late once the socket listens. Package net leaves no
	// moment between bind and listen.
	Options, Late []SocketOption
	DeferAccept   int         // seconds to wait for the first bytes before accepting, 0 is none
	Mode          fs.FileMode // of a unix socket's path, 0 leaves the umask's
}

// Listener is a bound socket.
type Listener struct {
	o    ListenOptions
	hold int // a socket that only holds the address, until Listen; -1 is none
	l    net.Listener
	addr meta.Addr
}

// Bind takes an address without listening on it: connections are refused until Listen.
// The path of a unix socket cannot be held that way: there it is the same as Listen,
// and connections wait until they are accepted.
func Bind(o ListenOptions) (*Listener, error) {
	if o.Addr.IsUnix() {
		return Listen(o)
	}
	l := &Listener{o: o, hold: -1, addr: o.Addr}
	if err := l.reserve(); err != nil {
		network, _ := o.network()
		return nil, &net.OpError{Op: "listen", Net: network, Addr: net.TCPAddrFromAddrPort(o.Addr.AddrPort), Err: err}
	}
	return l, nil
}

// reserve binds a socket that never listens. One that does can be bound beside it:
// both have SO_REUSEADDR, and the kernel minds only that while somebody listens.
func (l *Listener) reserve() error {
	network, _ := l.o.network()
	family := unix.AF_INET6
	if network == "tcp4" {
		family = unix.AF_INET
	}
	fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return os.NewSyscallError("socket", err)
	}
	if err := l.bind(fd, network); err != nil {
		_ = unix.Close(fd) // the first error counts
		return err
	}
	l.hold = fd
	return nil
}

func (l *Listener) bind(fd int, network string) error {
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1); err != nil {
		return os.NewSyscallError("setsockopt SO_REUSEADDR", err)
	}
	if network != "tcp4" {
		only := 1
		if network == "tcp" {
			only = 0
		}
		if err := unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, only); err != nil {
			return os.NewSyscallError("setsockopt IPV6_V6ONLY", err)
		}
	}
	if err := l.o.set(socket(fd), network); err != nil {
		return err
	}
	ip, port := l.o.Addr.Addr(), int(l.o.Addr.Port())
	var sa unix.Sockaddr
	if network == "tcp4" {
		sa = &unix.SockaddrInet4{Port: port, Addr: ip.Unmap().As4()}
	} else {
		zone, err := zoneID(ip.Zone())
		if err != nil {
			return err
		}
		sa = &unix.SockaddrInet6{Port: port, Addr: ip.As16(), ZoneId: zone}
	}
	if err := unix.Bind(fd, sa); err != nil {
		return os.NewSyscallError("bind", err)
	}
	bound, err := unix.Getsockname(fd)
	switch a := bound.(type) {
	case *unix.SockaddrInet4:
		port = a.Port
	case *unix.SockaddrInet6:
		port = a.Port
	}
	l.addr = meta.Addr{AddrPort: netip.AddrPortFrom(ip.Unmap(), uint16(port))}
	return os.NewSyscallError("getsockname", err)
}

func zoneID(zone string) (uint32, error) {
	if zone == "" {
		return 0, nil
	}
	i, err := net.InterfaceByName(zone)
	if err != nil {
		return 0, err
	}
	return uint32(i.Index), nil
}

// Listen begins to listen on an address that Bind has taken. It does nothing the
// second time.
func (l *Listener) Listen() error {
	if l.l != nil {
		return nil
	}
	o := l.o
	o.Addr = l.addr // with the port that the kernel has chosen
	fresh, err := Listen(o)
	if err != nil {
		return err
	}
	l.l, l.addr = fresh.l, fresh.addr
	l.letGo()
	return nil
}

func (l *Listener) letGo() {
	if l.hold >= 0 {
		_ = unix.Close(l.hold) // nothing was ever sent on it
		l.hold = -1
	}
}

// Listen binds and listens. A unix socket that nobody listens on any more is
// replaced; any other file at its path is left alone and is an error.
func Listen(o ListenOptions) (*Listener, error) {
	// Multipath TCP, package net's default, has no redirection: it is for who asks for it.
	lc := net.ListenConfig{KeepAlive: -1, Control: o.control}
	lc.SetMultipathTCP(o.Multipath)
	network, address := o.network()
	if network == "unix" {
		if err := removeStale(address); err != nil {
			return nil, err
		}
	}
	l, err := lc.Listen(context.Background(), network, address)
	if err != nil {
		return nil, err
	}
	if err := o.finish(l); err != nil {
		_ = l.Close() // the first error counts
		return nil, err
	}
	return &Listener{o: o, hold: -1, l: l, addr: meta.AddrOf(l.Addr())}, nil
}

// HasMultipath reports whether the kernel has MPTCP.
func HasMultipath() bool {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, unix.IPPROTO_MPTCP)
	if err != nil {
		return false
	}
	_ = unix.Close(fd) // it was never used
	return true
}

func (o *ListenOptions) network() (network, address string) {
	if o.Addr.IsUnix() {
		return "unix", o.Addr.Path
	}
	ip := o.Addr.Addr()
	switch {
	case ip.Is4() || ip.Is4In6():
		return "tcp4", netip.AddrPortFrom(ip.Unmap(), o.Addr.Port()).String()
	case ip == netip.IPv6Unspecified() && o.DualStack:
		return "tcp", o.Addr.String()
	}
	return "tcp6", o.Addr.String()
}

// control sets what must be set before bind.
func (o *ListenOptions) control(network, _ string, raw syscall.RawConn) error {
	if network == "unix" {
		return nil
	}
	var err error
	if e := raw.Control(func(fd uintptr) { err = o.set(socket(fd), network) }); e != nil {
		return e
	}
	return err
}

// set sets the options of a socket of package net's network.
func (o *ListenOptions) set(s socket, network string) (err error) {
	v6 := network != "tcp4"
	set := func(want bool, f func() error) {
		if want && err == nil {
			err = f()
		}
	}
	set(o.ReusePort, s.reusePort)
	set(o.Transparent, func() error { return s.transparent(v6) })
	set(o.Freebind, func() error { return s.freebind(v6) })
	set(o.DeferAccept > 0, func() error { return s.deferAccept(o.DeferAccept) })
	set(o.FastOpen != nil, func() error { return s.fastOpen(*o.FastOpen) })
	set(o.KeepAlive.Enable, func() error { return s.keepAlive(o.KeepAlive) })
	set(true, func() error { return s.all(o.Options, v6) })
	return err
}

// finish sets what can be set only after package net has begun to listen.
func (o *ListenOptions) finish(l net.Listener) error {
	if o.Mode != 0 && o.Addr.IsUnix() && !strings.HasPrefix(o.Addr.Path, "@") {
		if err := os.Chmod(o.Addr.Path, o.Mode); err != nil {
			return err
		}
	}
	if o.Backlog <= 0 && len(o.Late) == 0 {
		return nil
	}
	raw, err := l.(syscall.Conn).SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	if err := raw.Control(func(fd uintptr) {
		if o.Backlog > 0 {
			failed = os.NewSyscallError("listen", unix.Listen(int(fd), o.Backlog))
		}
		if failed == nil && !o.Addr.IsUnix() {
			failed = socket(fd).all(o.Late, !o.Addr.Addr().Unmap().Is4())
		}
	}); err != nil {
		return err
	}
	return failed
}

// removeStale removes the socket that an earlier process has left at path.
func removeStale(path string) error {
	if strings.HasPrefix(path, "@") {
		return nil
	}
	st, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case st.Mode().Type() != fs.ModeSocket:
		return fmt.Errorf("listen unix %s: the path exists and is no socket", path)
	}
	if c, err := net.Dial("unix", path); err == nil {
		_ = c.Close() // it only asked whether somebody listens
		return fmt.Errorf("listen unix %s: %w", path, syscall.EADDRINUSE)
	}
	return os.Remove(path)
}

// Addr returns the address that is bound, with the port that the kernel chose.
func (l *Listener) Addr() meta.Addr { return l.addr }

// Accept waits for a connection. net.ErrClosed is the end; a temporary lack of
// descriptors or memory is reported by Exhausted.
func (l *Listener) Accept() (net.Conn, error) { return l.l.Accept() }

// Listening reports whether it listens.
func (l *Listener) Listening() bool { return l.l != nil }

// Close ends Accept. Connections that wait in the backlog are reset by the kernel.
func (l *Listener) Close() error {
	l.letGo()
	if l.l == nil {
		return nil
	}
	return l.l.Close()
}

// Exhausted reports whether an error of Accept is a lack of descriptors or memory
// that may pass.
func Exhausted(err error) bool {
	return errors.Is(err, unix.EMFILE) || errors.Is(err, unix.ENFILE) ||
		errors.Is(err, unix.ENOBUFS) || errors.Is(err, unix.ENOMEM)
}
