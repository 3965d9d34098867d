package netio

import (
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"os"
	"strconv"
	"sync"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Datagram is one that has arrived.
type Datagram struct {
	Peer  netip.AddrPort // who sent it; IPv4 in IPv6 is IPv4
	Local netip.AddrPort // where it was sent to; of a connected socket its own address
	Data  []byte         // lent
}

// MaxBatch is how many datagrams move in one system call at most.
const MaxBatch = 64

// batchBytes is how large the memory of a batch is, unless its datagrams are so large
// that there would be fewer than eight.
const batchBytes = 96 << 10

type mmsghdr struct {
	hdr unix.Msghdr
	n   uint32
}

// UDPPool keeps the memory that datagrams up to some size are read into. Who waits
// for datagrams holds none.
type UDPPool struct {
	size  int
	count int
	pool  sync.Pool // *udpBatch
}

// NewUDPPool returns a pool for datagrams up to size bytes; longer ones are dropped.
func NewUDPPool(size int) *UDPPool {
	return &UDPPool{size: size, count: min(max(batchBytes/max(size, 1), 8), MaxBatch)}
}

// udpBatch is the memory of one read.
type udpBatch struct {
	msgs  []mmsghdr
	iovs  []unix.Iovec
	names []unix.RawSockaddrInet6 // large enough for IPv4, too
	ctrl  [][udpCmsgRoom]byte
	out   []Datagram
}

// udpCmsgRoom holds a packet info of either family and the count of lost datagrams.
const udpCmsgRoom = 96

func (p *UDPPool) get() *udpBatch {
	if b, ok := p.pool.Get().(*udpBatch); ok {
		return b
	}
	slab := make([]byte, p.count*p.size)
	b := &udpBatch{
		msgs: make([]mmsghdr, p.count), iovs: make([]unix.Iovec, p.count), names: make([]unix.RawSockaddrInet6, p.count),
		ctrl: make([][udpCmsgRoom]byte, p.count), out: make([]Datagram, 0, p.count),
	}
	for i := range b.msgs {
		b.iovs[i].Base = &slab[i*p.size]
		b.iovs[i].SetLen(p.size)
		h := &b.msgs[i].hdr
		h.Name, h.Iov, h.Control = (*byte)(unsafe.Pointer(&b.names[i])), &b.iovs[i], &b.ctrl[i][0]
		h.SetIovlen(1)
	}
	return b
}

// UDPReader reads the datagrams of one socket, on one goroutine at a time.
type UDPReader struct {
	s    *UDPSocket
	pool *UDPPool
	b    *udpBatch // nil while nothing is lent
	fn   func(fd uintptr) bool
	n    int
	err  error

	truncated uint64
	overflow  uint32 // as the kernel counts
	lost      uint64
}

// Init makes r read s with memory of pool.
func (r *UDPReader) Init(s *UDPSocket, pool *UDPPool) {
	*r = UDPReader{s: s, pool: pool}
	r.fn = r.try
}

// Read waits for datagrams and returns those that there are. They are lent until
// Release or the next Read. net.ErrClosed and os.ErrDeadlineExceeded are ends; errors that are about datagrams sent earlier, such as
// ECONNREFUSED of a connected socket, leave the socket usable.
func (r *UDPReader) Read() ([]Datagram, error) {
	r.n, r.err = 0, nil
	if err := r.s.raw.Read(r.fn); err != nil {
		r.Release()
		if !errors.Is(err, os.ErrDeadlineExceeded) { // a closed file, to the runtime
			err = net.ErrClosed
		}
		return nil, err
	}
	if r.err != nil {
		return nil, r.err
	}
	return r.collect(), nil
}

// Release gives back the memory of what was read.
func (r *UDPReader) Release() {
	if r.b != nil {
		r.pool.pool.Put(r.b)
		r.b = nil
	}
}

// Lost returns how many datagrams have not been delivered since the last call: too
// long ones, and those that the kernel had no room for.
func (r *UDPReader) Lost() uint64 {
	n := r.truncated + r.lost
	r.truncated, r.lost = 0, 0
	return n
}

// try reads once; false waits until there is something.
func (r *UDPReader) try(fd uintptr) bool {
	if r.b == nil {
		r.b = r.pool.get()
	}
	for i := range r.b.msgs {
		h := &r.b.msgs[i].hdr
		h.Namelen = unix.SizeofSockaddrInet6
		h.SetControllen(udpCmsgRoom)
	}
	for {
		n, _, errno := syscall.RawSyscall6(unix.SYS_RECVMMSG, fd, uintptr(unsafe.Pointer(&r.b.msgs[0])), uintptr(len(r.b.msgs)), unix.MSG_DONTWAIT, 0, 0)
		switch errno {
		case 0:
			r.n = int(n)
			return true
		case syscall.EINTR:
			continue
		case syscall.EAGAIN:
			r.Release()
			return false
		}
		r.Release()
		r.err = os.NewSyscallError("recvmmsg", errno)
		return true
	}
}

// collect describes what was read.
func (r *UDPReader) collect() []Datagram {
	out := r.b.out[:0]
	for i := range r.b.msgs[:r.n] {
		m := &r.b.msgs[i]
		d := Datagram{Local: r.s.local}
		r.control(r.b.ctrl[i][:min(int(m.hdr.Controllen), udpCmsgRoom)], &d.Local)
		if m.hdr.Flags&unix.MSG_TRUNC != 0 {
			r.truncated++
			continue
		}
		d.Peer = addrOf(&r.b.names[i])
		d.Data = unsafe.Slice(r.b.iovs[i].Base, m.n)
		out = append(out, d)
	}
	return out
}

func addrOf(raw *unix.RawSockaddrInet6) netip.AddrPort {
	if raw.Family == unix.AF_INET {
		v4 := (*unix.RawSockaddrInet4)(unsafe.Pointer(raw))
		return netip.AddrPortFrom(netip.AddrFrom4(v4.Addr), swap16(v4.Port))
	}
	ip := netip.AddrFrom16(raw.Addr).Unmap()
	if raw.Scope_id != 0 {
		ip = ip.WithZone(strconv.FormatUint(uint64(raw.Scope_id), 10))
	}
	return netip.AddrPortFrom(ip, swap16(raw.Port))
}

// control reads ancillary data: where a datagram was sent to, and how many were lost.
func (r *UDPReader) control(p []byte, local *netip.AddrPort) {
	const head = unix.SizeofCmsghdr
	for len(p) >= head {
		h := (*unix.Cmsghdr)(unsafe.Pointer(&p[0]))
		size := int(h.Len)
		if size < head || size > len(p) {
			return
		}
		data := p[head:size]
		switch {
		case h.Level == unix.SOL_IP && h.Type == unix.IP_PKTINFO && len(data) >= unix.SizeofInet4Pktinfo:
			*local = netip.AddrPortFrom(netip.AddrFrom4([4]byte(data[8:12])), local.Port())
		case h.Level == unix.SOL_IPV6 && h.Type == unix.IPV6_PKTINFO && len(data) >= unix.SizeofInet6Pktinfo:
			*local = netip.AddrPortFrom(netip.AddrFrom16([16]byte(data[:16])).Unmap(), local.Port())
		case h.Level == unix.SOL_SOCKET && h.Type == unix.SO_RXQ_OVFL && len(data) >= 4:
			if n := binary.NativeEndian.Uint32(data); n != r.overflow {
				r.lost += uint64(n - r.overflow)
				r.overflow = n
			}
		}
		p = p[min(cmsgAlign(size), len(p)):]
	}
}

func cmsgAlign(n int) int { return (n + unix.SizeofPtr - 1) &^ (unix.SizeofPtr - 1) }

// UDPPath is where datagrams of a socket that is not connected go, and which of the
// machine's addresses they come from.
type UDPPath struct {
	name unix.RawSockaddrInet6
	nlen uint32
	ctrl [unix.SizeofCmsghdr + 24]byte
	clen int
}

// Set makes p lead from local to peer over s. An address that is not specified is left
// to the kernel.
func (p *UDPPath) Set(s *UDPSocket, peer, local netip.AddrPort) {
	*p = UDPPath{}
	if !s.local.Addr().Is4() {
		p.name = unix.RawSockaddrInet6{Family: unix.AF_INET6, Port: swap16(peer.Port()), Addr: peer.Addr().As16()}
		if scope, err := strconv.ParseUint(peer.Addr().Zone(), 10, 32); err == nil {
			p.name.Scope_id = uint32(scope)
		}
		p.nlen = unix.SizeofSockaddrInet6
		if !local.Addr().IsUnspecified() {
			addr := local.Addr().As16()
			copy(p.info(unix.SOL_IPV6, unix.IPV6_PKTINFO, unix.SizeofInet6Pktinfo), addr[:])
		}
		return
	}
	v4 := (*unix.RawSockaddrInet4)(unsafe.Pointer(&p.name))
	*v4 = unix.RawSockaddrInet4{Family: unix.AF_INET, Port: swap16(peer.Port()), Addr: peer.Addr().Unmap().As4()}
	p.nlen = unix.SizeofSockaddrInet4
	if !local.Addr().IsUnspecified() {
		addr := local.Addr().Unmap().As4()
		copy(p.info(unix.SOL_IP, unix.IP_PKTINFO, unix.SizeofInet4Pktinfo)[4:], addr[:]) // ipi_spec_dst
	}
}

func (p *UDPPath) info(level, typ, size int) []byte {
	h := (*unix.Cmsghdr)(unsafe.Pointer(&p.ctrl[0]))
	h.Level, h.Type = int32(level), int32(typ)
	h.SetLen(unix.SizeofCmsghdr + size)
	p.clen = unix.SizeofCmsghdr + cmsgAlign(size)
	return p.ctrl[unix.SizeofCmsghdr:][:size]
}

// UDPSender collects datagrams and sends them with one system call. The zero value is
// ready. It is used by one goroutine at a time.
type UDPSender struct {
	msgs [MaxBatch]mmsghdr
	iovs [MaxBatch]unix.Iovec
	n    int
	fn   func(fd uintptr)
	sent int
	size int
	fail error
}

// Full reports whether Flush must come before Add.
func (w *UDPSender) Full() bool { return w.n == MaxBatch }

// Add takes a datagram for the next Flush; p and to are lent until then. to is nil for
// a connected socket.
func (w *UDPSender) Add(p []byte, to *UDPPath) {
	w.iovs[w.n] = unix.Iovec{Base: unsafe.SliceData(p)}
	w.iovs[w.n].SetLen(len(p))
	h := &w.msgs[w.n].hdr
	*h = unix.Msghdr{Iov: &w.iovs[w.n]}
	h.SetIovlen(1)
	if to != nil {
		h.Name, h.Namelen = (*byte)(unsafe.Pointer(&to.name)), to.nlen
		if to.clen > 0 {
			h.Control = &to.ctrl[0]
			h.SetControllen(to.clen)
		}
	}
	w.n++
}

// Flush sends what was added over s. It does not wait: what the socket takes no more is
// lost, as datagrams may be. It returns how many left, how many bytes those had, how
// many were lost, and why the last of those was.
func (w *UDPSender) Flush(s *UDPSocket) (sent, size, lost int, err error) {
	if w.n == 0 {
		return 0, 0, 0, nil
	}
	if w.fn == nil {
		w.fn = w.send
	}
	w.sent, w.size, w.fail = 0, 0, nil
	if err := s.raw.Control(w.fn); err != nil {
		w.fail = err
	}
	n := w.n
	clear(w.iovs[:n])
	clear(w.msgs[:n])
	w.n = 0
	return w.sent, w.size, n - w.sent, w.fail
}

func (w *UDPSender) send(fd uintptr) {
	again := false
	for i := 0; i < w.n; {
		n, _, errno := syscall.RawSyscall6(unix.SYS_SENDMMSG, fd, uintptr(unsafe.Pointer(&w.msgs[i])), uintptr(w.n-i), unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL, 0, 0)
		switch errno {
		case 0:
			for _, m := range w.msgs[i : i+int(n)] {
				w.size += int(m.n)
			}
			w.sent += int(n)
			i += int(n)
			again = false
		case syscall.EINTR:
		case syscall.EAGAIN:
			w.fail = os.NewSyscallError("sendmmsg", errno)
			return
		case syscall.ECONNREFUSED:
			// It is about a datagram sent earlier, and is told once.
			if again = !again; !again {
				w.fail = os.NewSyscallError("sendmmsg", errno)
				i++
			}
		default:
			w.fail = os.NewSyscallError("sendmmsg", errno)
			i++
		}
	}
}
