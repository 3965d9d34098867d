package pod

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"sync"

	"github.com/mecha-mesh/mecha/iptables"
)

const (
	// maxRelays bounds the connections between a node and the outside world;
	// more wait in the listener's queue.
	maxRelays = 1024
	// maxQueries bounds the DNS questions that are being answered elsewhere.
	maxQueries = 128
)

// openUplink opens the node's way to the outside world. It consumes files,
// which were opened inside the node: the DNS socket and, unless the node is
// isolated, the listener that TCP connections to the outside are diverted to.
// Connections are dialled again in the network of this process.
func (n *Node) openUplink(files []*os.File) error {
	defer closeAll(files)
	if len(files) == 0 {
		return errors.New("pod: the node sent no sockets")
	}
	dns, err := net.FilePacketConn(files[0])
	if err != nil {
		return err
	}
	context.AfterFunc(n.ctx, func() { dns.Close() }) //nolint:errcheck // nothing was written to it
	r := &resolver{names: n.own.names}
	if !n.own.conf.Isolated {
		v4, _ := n.net.host()
		r.names.set("host", []netip.Addr{v4})
		r.upstream = hostResolvers(os.DirFS("/etc"))
	}
	n.wg.Go(func() { r.serve(n.ctx, dns, n.log) })
	if len(files) < 2 {
		return nil
	}
	l, err := net.FileListener(files[1])
	if err != nil {
		return err
	}
	n.wg.Go(func() { n.accept(l, n.relay) })
	return nil
}

// accept serves a listener until the node or the listener is closed.
func (n *Node) accept(l net.Listener, serve func(*net.TCPConn)) {
	context.AfterFunc(n.ctx, func() { l.Close() }) //nolint:errcheck // nothing was written to it
	slots := make(chan struct{}, maxRelays)
	for {
		slots <- struct{}{}
		c, err := l.Accept()
		if err != nil {
			if n.ctx.Err() == nil && !errors.Is(err, net.ErrClosed) {
				n.log.Error("pod: no more connections are accepted", "listener", l.Addr(), "error", err)
			}
			return
		}
		n.wg.Go(func() {
			defer func() { <-slots }()
			serve(c.(*net.TCPConn))
		})
	}
}

// relay dials where a diverted connection wanted to go, from this process's
// network. The inner side believes itself connected meanwhile; if the outside
// refuses, it sees a reset.
func (n *Node) relay(inner *net.TCPConn) {
	dst, err := iptables.OriginalDst(inner)
	if err != nil {
		n.log.Debug("pod: uplink", "error", err)
		reset(inner)
		return
	}
	outer, err := dialFirst(n.ctx, n.outside(dst))
	if err != nil {
		n.log.Debug("pod: uplink: not connected", "destination", dst, "error", err)
		reset(inner)
		return
	}
	join(n.ctx, inner, outer)
}

// outside returns what to dial for a destination. What stands for the host is
// its loopback, whichever IP version the listener there happens to use: the
// inner side is connected already and cannot try the other one.
func (n *Node) outside(dst netip.AddrPort) []netip.AddrPort {
	lo4 := netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), dst.Port())
	lo6 := netip.AddrPortFrom(netip.IPv6Loopback(), dst.Port())
	v4, v6 := n.net.host()
	switch dst.Addr() {
	case v4:
		return []netip.AddrPort{lo4, lo6}
	case v6:
		return []netip.AddrPort{lo6, lo4}
	}
	return []netip.AddrPort{dst}
}

func dialFirst(ctx context.Context, addrs []netip.AddrPort) (*net.TCPConn, error) {
	d := net.Dialer{Timeout: dialTimeout}
	var errs []error
	for _, a := range addrs {
		c, err := d.DialContext(ctx, "tcp", a.String())
		if err == nil {
			return c.(*net.TCPConn), nil
		}
		errs = append(errs, err)
	}
	return nil, errors.Join(errs...)
}

// hostHasIPv6 reports whether this process's network has a way to the IPv6
// internet. Connecting a datagram socket asks the routing table, nobody else.
func hostHasIPv6() bool {
	c, err := net.Dial("udp6", "[2001:db8::1]:53")
	if err != nil {
		return false
	}
	c.Close() //nolint:errcheck // nothing was sent
	return true
}

func reset(c *net.TCPConn) {
	_ = c.SetLinger(0)
	c.Close() //nolint:errcheck // reset on purpose
}

// join copies both ways until both are done, one fails, or ctx ends, and
// closes both. An end in one direction is passed on as an end in that direction.
func join(ctx context.Context, a, b *net.TCPConn) {
	cut := func() { reset(a); reset(b) }
	stop := context.AfterFunc(ctx, cut)
	defer stop()
	var wg sync.WaitGroup
	pump := func(dst, src *net.TCPConn) {
		if _, err := io.Copy(dst, src); err != nil {
			cut()
			return
		}
		_ = dst.CloseWrite()
	}
	wg.Go(func() { pump(a, b) })
	wg.Go(func() { pump(b, a) })
	wg.Wait()
	a.Close() //nolint:errcheck // both directions have ended
	b.Close() //nolint:errcheck // both directions have ended
}

// Publish accepts connections on a TCP address of the host ("127.0.0.1:8080")
// and carries them to addr in the node's network, until the returned listener
// or the node is closed. They arrive from the node's own address.
func (n *Node) Publish(hostAddr, addr string) (net.Listener, error) {
	l, err := net.Listen("tcp", hostAddr)
	if err != nil {
		return nil, err
	}
	n.wg.Go(func() {
		n.accept(l, func(outer *net.TCPConn) {
			inner, err := n.Dial(n.ctx, addr)
			if err != nil {
				n.log.Debug("pod: published port: not connected", "destination", addr, "error", err)
				reset(outer)
				return
			}
			join(n.ctx, inner.(*net.TCPConn), outer)
		})
	})
	return l, nil
}
