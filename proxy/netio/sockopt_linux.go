package netio

import (
	"encoding/binary"
	"net/netip"
	"os"

	"golang.org/x/sys/unix"

	"github.com/mecha-mesh/mecha/proxy/meta"
)

// socket is a descriptor whose options are set before it is used.
type socket int

// bindNoPort leaves the choice of the port to connect, which knows the destination
// and so does not run out of ports (IP_BIND_ADDRESS_NO_PORT). Old kernels cannot.
func (s socket) bindNoPort() {
	_ = unix.SetsockoptInt(int(s), unix.SOL_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1)
}

func (s socket) freebind(v6 bool) error {
	if v6 {
		return os.NewSyscallError("setsockopt IPV6_FREEBIND", unix.SetsockoptInt(int(s), unix.SOL_IPV6, unix.IPV6_FREEBIND, 1))
	}
	return os.NewSyscallError("setsockopt IP_FREEBIND", unix.SetsockoptInt(int(s), unix.SOL_IP, unix.IP_FREEBIND, 1))
}

func (s socket) transparent(v6 bool) error {
	if v6 {
		if err := unix.SetsockoptInt(int(s), unix.SOL_IPV6, unix.IPV6_TRANSPARENT, 1); err != nil {
			return os.NewSyscallError("setsockopt IPV6_TRANSPARENT", err)
		}
	}
	return os.NewSyscallError("setsockopt IP_TRANSPARENT", unix.SetsockoptInt(int(s), unix.SOL_IP, unix.IP_TRANSPARENT, 1))
}

func (s socket) mark(mark int) error {
	return os.NewSyscallError("setsockopt SO_MARK", unix.SetsockoptInt(int(s), unix.SOL_SOCKET, unix.SO_MARK, mark))
}

func (s socket) reusePort() error {
	return os.NewSyscallError("setsockopt SO_REUSEPORT", unix.SetsockoptInt(int(s), unix.SOL_SOCKET, unix.SO_REUSEPORT, 1))
}

func (s socket) deferAccept(seconds int) error {
	return os.NewSyscallError("setsockopt TCP_DEFER_ACCEPT", unix.SetsockoptInt(int(s), unix.IPPROTO_TCP, unix.TCP_DEFER_ACCEPT, seconds))
}

func (s socket) fastOpen(queue int) error {
	return os.NewSyscallError("setsockopt TCP_FASTOPEN", unix.SetsockoptInt(int(s), unix.IPPROTO_TCP, unix.TCP_FASTOPEN, queue))
}

// keepAlive is inherited by the connections that a socket accepts.
func (s socket) keepAlive(k KeepAlive) error {
	if err := unix.SetsockoptInt(int(s), unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1); err != nil {
		return os.NewSyscallError("setsockopt SO_KEEPALIVE", err)
	}
	for _, o := range []struct{ name, value int }{
		{unix.TCP_KEEPCNT, k.Probes}, {unix.TCP_KEEPIDLE, int(k.Idle.Seconds())}, {unix.TCP_KEEPINTVL, int(k.Interval.Seconds())},
	} {
		if o.value <= 0 {
			continue
		}
		if err := unix.SetsockoptInt(int(s), unix.IPPROTO_TCP, o.name, o.value); err != nil {
			return os.NewSyscallError("setsockopt keep-alive", err)
		}
	}
	return nil
}

// soOriginalDst is SO_ORIGINAL_DST and IP6T_SO_ORIGINAL_DST.
const soOriginalDst = 80

// OriginalDst returns where a redirected connection was sent to before netfilter
// changed it (REDIRECT); of a transparently accepted one (TPROXY) that is its local
// address. ok is false where the kernel knows of no redirection and the local address
// is none that was asked for, such as for unix sockets.
func OriginalDst(c *Conn) (dst meta.Addr, ok bool) {
	if c.raw == nil {
		return meta.Addr{}, false
	}
	local := meta.AddrOf(c.LocalAddr())
	if !local.AddrPort.IsValid() {
		return meta.Addr{}, false
	}
	var ap netip.AddrPort
	err := c.raw.Control(func(fd uintptr) {
		if transparent(int(fd)) {
			ap = local.AddrPort
			return
		}
		if local.Addr().Is4() {
			ap = originalDst4(int(fd))
		} else {
			ap = originalDst6(int(fd), local.Addr().Zone())
		}
	})
	return meta.Addr{AddrPort: ap}, err == nil && ap.IsValid()
}

func transparent(fd int) bool {
	v, err := unix.GetsockoptInt(fd, unix.SOL_IP, unix.IP_TRANSPARENT)
	return err == nil && v != 0
}

func originalDst4(fd int) netip.AddrPort {
	// x/sys has no sockaddr_in getter: ipv6_mreq is 20 bytes, the address fits into its first 16.
	r, err := unix.GetsockoptIPv6Mreq(fd, unix.SOL_IP, soOriginalDst)
	if err != nil {
		return netip.AddrPort{}
	}
	a := r.Multiaddr // family, port, address
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte(a[4:8])), uint16(a[2])<<8|uint16(a[3]))
}

func originalDst6(fd int, zone string) netip.AddrPort {
	r, err := unix.GetsockoptIPv6MTUInfo(fd, unix.SOL_IPV6, soOriginalDst)
	if err != nil {
		return netip.AddrPort{}
	}
	ip := netip.AddrFrom16(r.Addr.Addr)
	if ip.IsLinkLocalUnicast() {
		ip = ip.WithZone(zone)
	}
	return netip.AddrPortFrom(ip.Unmap(), swap16(r.Addr.Port))
}

// swap16 reads a port that the kernel wrote in network order.
func swap16(p uint16) uint16 {
	var b [2]byte
	binary.NativeEndian.PutUint16(b[:], p)
	return binary.BigEndian.Uint16(b[:])
}
