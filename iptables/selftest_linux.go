package iptables

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// ErrBusy is the error of a SelfTest that cannot listen on a capture port
// because someone, normally the sidecar, does already.
var ErrBusy = errors.New("a capture port is in use already: run the self-test before the sidecar starts")

const (
	arrivalTimeout = 3 * time.Second
	// absence is how long to watch for a connection that must not arrive. An
	// arriving one crosses only the loopback device, which takes microseconds.
	absence = 100 * time.Millisecond
)

// Check is one thing that SelfTest looked at.
type Check struct {
	Name string
	// Skipped says why it could not be looked at; empty: it was, and passed.
	Skipped string
}

// SelfTest proves that the rules in the network namespace of the calling thread
// do what c says: it takes the sidecar's place on the capture ports, opens real
// connections as the program and as the sidecar, and reads the original
// destination of what arrives. It runs before the sidecar starts (else: ErrBusy)
// and takes well under a second when all is well. The error of the first check
// that fails says what was expected.
func SelfTest(ctx context.Context, c Config) ([]Check, error) {
	t := &selfTest{c: c}
	defer t.close()
	if err := t.listen(ctx); err != nil {
		return nil, err
	}
	for _, v6 := range []bool{false, true} {
		for _, step := range []func(context.Context, bool) error{t.program, t.sidecar, t.hairpin} {
			if err := step(ctx, v6); err != nil {
				return t.checks, fmt.Errorf("iptables: self-test: %w", err)
			}
		}
	}
	return t.checks, nil
}

type selfTest struct {
	c                 Config
	outbound, inbound *net.TCPListener
	checks            []Check
}

func (t *selfTest) close() {
	for _, l := range []*net.TCPListener{t.outbound, t.inbound} {
		if l != nil {
			l.Close() //nolint:errcheck // nothing was written to it
		}
	}
}

func (t *selfTest) done(name, skipped string) { t.checks = append(t.checks, Check{name, skipped}) }

func (t *selfTest) listen(ctx context.Context) (err error) {
	if t.outbound, err = listen(ctx, t.c.OutboundPort, false); err != nil || t.c.Inbound == None {
		return err
	}
	t.inbound, err = listen(ctx, t.c.InboundPort, t.c.Inbound == TProxy)
	return err
}

func listen(ctx context.Context, port uint16, transparent bool) (*net.TCPListener, error) {
	lc := net.ListenConfig{Control: func(_, _ string, rc syscall.RawConn) error {
		if !transparent {
			return nil
		}
		var err error
		cerr := rc.Control(func(fd uintptr) { err = setTransparent(int(fd)) })
		return errors.Join(cerr, err)
	}}
	// The kernel answers SO_ORIGINAL_DST on plain TCP sockets only, not on those
	// of Multipath TCP, which Go listens with otherwise.
	lc.SetMultipathTCP(false)
	l, err := lc.Listen(ctx, "tcp", fmt.Sprintf(":%d", port))
	switch {
	case errors.Is(err, unix.EADDRINUSE):
		return nil, fmt.Errorf("iptables: self-test: port %d: %w", port, ErrBusy)
	case err != nil:
		return nil, fmt.Errorf("iptables: self-test: %w", privilege(err))
	}
	return l.(*net.TCPListener), nil
}

func setTransparent(fd int) error {
	err4 := unix.SetsockoptInt(fd, unix.SOL_IP, unix.IP_TRANSPARENT, 1)
	err6 := unix.SetsockoptInt(fd, unix.SOL_IPV6, unix.IPV6_TRANSPARENT, 1)
	if err4 != nil && err6 != nil {
		return err4
	}
	return nil
}

func version(v6 bool) string {
	if v6 {
		return "IPv6"
	}
	return "IPv4"
}

// exempt says why connections of this very process are not captured, or "".
func (t *selfTest) exempt() string {
	uid, gid := uint32(os.Getuid()), uint32(os.Getgid())
	switch {
	case inIDs(t.c.ExcludeUIDs, uid), inIDs(t.c.ExcludeGIDs, gid):
		return "the self-test runs as a user or group that is excluded"
	case len(t.c.OutboundGIDs) > 0 && !inIDs(t.c.OutboundGIDs, gid):
		return "the self-test runs as a group that is not captured"
	}
	for _, u := range t.c.ProxyUIDs {
		if u == uid {
			return "the self-test runs as the sidecar's user"
		}
	}
	for _, g := range t.c.ProxyGIDs {
		if g == gid {
			return "the self-test runs as the sidecar's group"
		}
	}
	return ""
}

// program: what the program opens arrives at the outbound port.
func (t *selfTest) program(ctx context.Context, v6 bool) error {
	name := version(v6) + ": the program's outbound connection reaches the sidecar"
	dst, ok := t.c.outboundProbe(v6)
	if !ok {
		t.done(name, "no outbound capture is configured")
		return nil
	}
	if why := t.exempt(); why != "" {
		t.done(name, why)
		return nil
	}
	return t.expect(ctx, name, t.outbound, t.c.OutboundPort, identity{}, dst)
}

// sidecar: what the sidecar opens does not come back to it.
func (t *selfTest) sidecar(ctx context.Context, v6 bool) error {
	name := version(v6) + ": the sidecar's own connection goes out directly"
	dst, ok := t.c.outboundProbe(v6)
	if !ok {
		t.done(name, "no outbound capture is configured")
		return nil
	}
	who := t.c.identity()
	type arrival struct {
		dst netip.AddrPort
		err error
	}
	arrived := make(chan arrival, 1)
	go func() {
		dst, err := accept(t.outbound, absence)
		arrived <- arrival{dst, err}
	}()
	// The socket must be made on this thread: it belongs to its network namespace.
	dctx, cancel := context.WithTimeout(ctx, absence)
	defer cancel()
	conn, derr := who.dial(dctx, dst)
	if conn != nil {
		conn.Close() //nolint:errcheck // nothing was written to it
	}
	a := <-arrived
	switch {
	case a.err == nil:
		return fmt.Errorf("%s: it was captured (original destination %v): the sidecar would connect to itself without end", name, a.dst)
	case unreachable(derr):
		t.done(name, "no "+version(v6)+" route out of this pod")
	case errors.Is(derr, errIdentity):
		t.done(name, "the self-test may not act as the sidecar")
	default:
		t.done(name, "")
	}
	return nil
}

// hairpin: the sidecar calling its own pod is an inbound connection. This is
// also the only inbound path that can be tried from inside.
func (t *selfTest) hairpin(ctx context.Context, v6 bool) error {
	name := version(v6) + ": a connection to the pod's own address is inbound"
	if t.inbound == nil {
		t.done(name, "no inbound capture is configured")
		return nil
	}
	self, ok := ownAddress(v6)
	if !ok {
		t.done(name, "the pod has no "+version(v6)+" address")
		return nil
	}
	port, ok := t.c.inboundProbe(self)
	if !ok || (t.c.Families == IPv4Only) == v6 && t.c.Families != DualStack {
		t.done(name, "no inbound capture is configured")
		return nil
	}
	who := t.c.identity()
	return t.expect(ctx, name, t.inbound, t.c.InboundPort, who, netip.AddrPortFrom(self, port))
}

// expect dials dst and wants the connection to arrive at l with dst as its
// original destination.
func (t *selfTest) expect(ctx context.Context, name string, l *net.TCPListener, port uint16, who identity, dst netip.AddrPort) error {
	dctx, cancel := context.WithTimeout(ctx, arrivalTimeout)
	defer cancel()
	conn, err := who.dial(dctx, dst)
	if conn != nil {
		defer conn.Close() //nolint:errcheck // nothing was written to it
	}
	if unreachable(err) {
		t.done(name, "no "+version(dst.Addr().Is6())+" route out of this pod")
		return nil
	}
	if errors.Is(err, errIdentity) {
		t.done(name, "the self-test may not act as the sidecar")
		return nil
	}
	if err != nil {
		return fmt.Errorf("%s: connecting to %v: %w; expected it to arrive at port %d", name, dst, err, port)
	}
	got, err := accept(l, arrivalTimeout)
	if err != nil {
		return fmt.Errorf("%s: a connection to %v was accepted by someone else; expected it at port %d", name, dst, port)
	}
	if got != dst {
		return fmt.Errorf("%s: original destination is %v; expected %v", name, got, dst)
	}
	t.done(name, "")
	return nil
}

func unreachable(err error) bool {
	return errors.Is(err, unix.ENETUNREACH) || errors.Is(err, unix.EADDRNOTAVAIL) ||
		errors.Is(err, unix.EAFNOSUPPORT) || errors.Is(err, unix.ENETDOWN)
}

// accept waits for one connection and returns its original destination.
func accept(l *net.TCPListener, within time.Duration) (netip.AddrPort, error) {
	if err := l.SetDeadline(time.Now().Add(within)); err != nil {
		return netip.AddrPort{}, err
	}
	conn, err := l.AcceptTCP()
	if err != nil {
		return netip.AddrPort{}, err
	}
	defer conn.Close() //nolint:errcheck // nothing was written to it
	return OriginalDst(conn)
}

// OriginalDst returns where the peer of a captured connection wanted to go:
// the destination before NAT, or, for TPROXY, the connection's own local address.
func OriginalDst(conn *net.TCPConn) (netip.AddrPort, error) {
	local := conn.LocalAddr().(*net.TCPAddr).AddrPort()
	local = netip.AddrPortFrom(local.Addr().Unmap(), local.Port())
	rc, err := conn.SyscallConn()
	if err != nil {
		return netip.AddrPort{}, err
	}
	dst := local
	cerr := rc.Control(func(fd uintptr) {
		if local.Addr().Is4() {
			// The kernel fills a sockaddr_in: family, port, address.
			m, gerr := unix.GetsockoptIPv6Mreq(int(fd), unix.SOL_IP, unix.SO_ORIGINAL_DST)
			if err = gerr; err == nil {
				b := m.Multiaddr
				dst = netip.AddrPortFrom(netip.AddrFrom4([4]byte(b[4:8])), uint16(b[2])<<8|uint16(b[3]))
			}
			return
		}
		m, gerr := unix.GetsockoptIPv6MTUInfo(int(fd), unix.SOL_IPV6, unix.SO_ORIGINAL_DST)
		if err = gerr; err == nil {
			port := binary.NativeEndian.AppendUint16(nil, m.Addr.Port) // holds network order
			dst = netip.AddrPortFrom(netip.AddrFrom16(m.Addr.Addr), binary.BigEndian.Uint16(port))
		}
	})
	switch {
	case cerr != nil:
		return netip.AddrPort{}, cerr
	case errors.Is(err, unix.ENOENT):
		return local, nil // no NAT entry: not redirected, or not by NAT
	case err != nil:
		return netip.AddrPort{}, fmt.Errorf("iptables: read original destination: %w", err)
	}
	return dst, nil
}

// identity is what a socket is recognised by. The zero value is this process.
type identity struct {
	uid, gid *uint32
	mark     uint32
}

// errIdentity: this process cannot act as the sidecar.
var errIdentity = errors.New("the id of the sidecar cannot be taken")

// identity returns a way to act as the sidecar. Dialing fails with errIdentity
// where this process may not use it.
func (c Config) identity() identity {
	switch {
	case len(c.ProxyMarks) > 0:
		return identity{mark: c.ProxyMarks[0]}
	case len(c.ProxyUIDs) > 0:
		return identity{uid: &c.ProxyUIDs[0]}
	default:
		return identity{gid: &c.ProxyGIDs[0]}
	}
}

// dial opens a connection whose socket carries the identity. Owner rules look
// at the file-system ids of the thread that made the socket; those belong to
// one thread, so it is given up afterwards if they cannot be restored.
func (id identity) dial(ctx context.Context, dst netip.AddrPort) (net.Conn, error) {
	d := net.Dialer{Control: func(_, _ string, rc syscall.RawConn) error {
		var err error
		cerr := rc.Control(func(fd uintptr) {
			if id.mark != 0 {
				err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_MARK, int(id.mark))
			}
			// Nothing of these connections should linger in the pod.
			_ = unix.SetsockoptLinger(int(fd), unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
		})
		return errors.Join(cerr, err)
	}}
	if id.uid != nil || id.gid != nil {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
	}
	// The calls report the old id and no error; asking with an impossible id
	// tells whether it was taken (in a user namespace it may not exist).
	if id.gid != nil {
		old, _ := unix.SetfsgidRetGid(int(*id.gid))
		defer unix.SetfsgidRetGid(old) //nolint:errcheck // restoring our own id is always allowed
		if now, _ := unix.SetfsgidRetGid(-1); now != int(*id.gid) {
			return nil, errIdentity
		}
	}
	if id.uid != nil {
		old, _ := unix.SetfsuidRetUid(int(*id.uid))
		defer unix.SetfsuidRetUid(old) //nolint:errcheck // restoring our own id is always allowed
		if now, _ := unix.SetfsuidRetUid(-1); now != int(*id.uid) {
			return nil, errIdentity
		}
	}
	return d.DialContext(ctx, "tcp", dst.String())
}

// ownAddress returns an address by which others reach this pod.
func ownAddress(v6 bool) (netip.Addr, bool) {
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return netip.Addr{}, false
	}
	for _, a := range addrs {
		n, ok := a.(*net.IPNet)
		if !ok {
			continue
		}
		ip, _ := netip.AddrFromSlice(n.IP)
		ip = ip.Unmap()
		if ip.Is6() == v6 && ip.IsGlobalUnicast() && !n.IP.Equal(passthroughAddr().IP) {
			return ip, true
		}
	}
	return netip.Addr{}, false
}
