package netio

import (
	"fmt"
	"net/netip"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mecha-mesh/mecha/proxy/meta"
)

// UDPOptions is how a UDP socket is made.
type UDPOptions struct {
	// Bind is the socket's own address; the zero value leaves it to the kernel.
	Bind netip.AddrPort
	// To is the only peer of the socket; the zero value takes datagrams from everybody.
	To        netip.AddrPort
	DualStack bool // [::] takes IPv4, too (ipv4_compat)
	ReusePort bool
	// Transparent allows a Bind that is not an address of the machine (IP_TRANSPARENT).
	Transparent bool
	Freebind    bool
	Mark        int            // SO_MARK, 0 for none
	Options     []SocketOption // set before bind and connect
}

// UDPSocket is a UDP socket. Many datagrams are moved with one system call: see
// UDPReader and UDPSender.
type UDPSocket struct {
	f     *os.File
	raw   syscall.RawConn
	local netip.AddrPort
}

// OpenUDP makes a socket.
func OpenUDP(o UDPOptions) (*UDPSocket, error) {
	like := o.To
	if o.Bind.IsValid() {
		like = o.Bind
	}
	if !like.IsValid() {
		return nil, fmt.Errorf("netio: a UDP socket needs an address")
	}
	v6 := !like.Addr().Unmap().Is4()
	family := unix.AF_INET
	if v6 {
		family = unix.AF_INET6
	}
	fd, err := unix.Socket(family, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	if err := o.set(fd, v6); err != nil {
		_ = unix.Close(fd) // the first error counts
		return nil, err
	}
	s := &UDPSocket{f: os.NewFile(uintptr(fd), "udp")}
	if s.raw, err = s.f.SyscallConn(); err != nil {
		_ = s.f.Close() // the first error counts
		return nil, err
	}
	if sa, err := unix.Getsockname(fd); err == nil {
		s.local = fromSockaddr(sa)
	}
	return s, nil
}

// set sets the options, binds and connects.
func (o *UDPOptions) set(fd int, v6 bool) error {
	s := socket(fd)
	var steps []func() error
	add := func(want bool, f func() error) {
		if want {
			steps = append(steps, f)
		}
	}
	flag := func(name string, level, opt, v int) func() error {
		return func() error { return os.NewSyscallError("setsockopt "+name, unix.SetsockoptInt(fd, level, opt, v)) }
	}
	only := 1
	if o.DualStack {
		only = 0
	}
	add(v6, flag("IPV6_V6ONLY", unix.SOL_IPV6, unix.IPV6_V6ONLY, only))
	add(o.ReusePort, s.reusePort)
	add(o.Transparent, func() error { return s.transparent(v6) })
	add(o.Freebind, func() error { return s.freebind(v6) })
	add(o.Mark != 0, func() error { return s.mark(o.Mark) })
	for i := range o.Options {
		add(true, func() error { return s.option(&o.Options[i], v6) })
	}
	if !o.To.IsValid() {
		// Where a datagram was sent to, and how many the kernel had no room for.
		add(v6, flag("IPV6_RECVPKTINFO", unix.SOL_IPV6, unix.IPV6_RECVPKTINFO, 1))
		add(!v6, flag("IP_PKTINFO", unix.SOL_IP, unix.IP_PKTINFO, 1))
		add(true, flag("SO_RXQ_OVFL", unix.SOL_SOCKET, unix.SO_RXQ_OVFL, 1))
	}
	add(o.Bind.IsValid(), func() error { return os.NewSyscallError("bind", unix.Bind(fd, sockaddr(o.Bind, v6))) })
	add(o.To.IsValid(), func() error { return os.NewSyscallError("connect", unix.Connect(fd, sockaddr(o.To, v6))) })
	for _, f := range steps {
		if err := f(); err != nil {
			return err
		}
	}
	return nil
}

func sockaddr(a netip.AddrPort, v6 bool) unix.Sockaddr {
	if !v6 {
		return &unix.SockaddrInet4{Addr: a.Addr().Unmap().As4(), Port: int(a.Port())}
	}
	return &unix.SockaddrInet6{Addr: a.Addr().As16(), Port: int(a.Port())}
}

func fromSockaddr(sa unix.Sockaddr) netip.AddrPort {
	switch sa := sa.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(sa.Addr), uint16(sa.Port))
	case *unix.SockaddrInet6:
		return netip.AddrPortFrom(netip.AddrFrom16(sa.Addr), uint16(sa.Port))
	}
	return netip.AddrPort{}
}

// Local returns the address that the socket has.
func (s *UDPSocket) Local() netip.AddrPort { return s.local }

// Addr is Local.
func (s *UDPSocket) Addr() meta.Addr { return meta.Addr{AddrPort: s.local} }

// SetReadDeadline ends reads at t, also one that waits already; the zero time is never.
func (s *UDPSocket) SetReadDeadline(t time.Time) error { return s.f.SetReadDeadline(t) }

// Close ends reads and closes the socket.
func (s *UDPSocket) Close() error { return s.f.Close() }
