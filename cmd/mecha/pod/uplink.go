package pod

import (
	"context"
	"errors"
	"io"
	"log/slog"
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

// uplink is a node's way to the outside world. It uses sockets that were opened
// inside the node, and opens its own in the network of this process.
type uplink struct {
	net    network
	log    *slog.Logger
	names  *names
	closer []io.Closer
	ctx    context.Context
	stop   context.CancelFunc
	wg     sync.WaitGroup
}

// newUplink consumes files: the DNS socket and, unless the node is isolated,
// the listener that TCP connections to the outside are diverted to.
func newUplink(n *Node, files []*os.File) (*uplink, error) {
	defer closeAll(files)
	u := &uplink{net: n.net, log: n.conf.Log, names: newNames()}
	u.ctx, u.stop = context.WithCancel(context.Background())
	host4, host6 := n.net.host()
	if len(files) == 0 {
		return nil, errors.New("pod: the node sent no sockets")
	}
	dns, err := net.FilePacketConn(files[0])
	if err != nil {
		return nil, err
	}
	u.closer = append(u.closer, dns)
	resolver := &resolver{names: u.names}
	if !n.conf.Isolated {
		u.names.set("host", []netip.Addr{host4, host6})
		resolver.upstream = hostResolvers(os.DirFS("/etc"))
	}
	u.wg.Go(func() { resolver.serve(u.ctx, dns, u.log) })
	if len(files) < 2 {
		return u, nil
	}
	l, err := net.FileListener(files[1])
	if err != nil {
		u.close()
		return nil, err
	}
	u.closer = append(u.closer, l)
	u.wg.Go(func() { u.serve(l) })
	return u, nil
}

func (u *uplink) close() {
	u.stop()
	for _, c := range u.closer {
		c.Close() //nolint:errcheck // nothing was written to it
	}
	u.wg.Wait()
}

func (u *uplink) serve(l net.Listener) {
	slots := make(chan struct{}, maxRelays)
	for {
		slots <- struct{}{}
		c, err := l.Accept()
		if err != nil {
			if u.ctx.Err() == nil {
				u.log.Error("pod: uplink stopped", "error", err)
			}
			return
		}
		u.wg.Go(func() {
			defer func() { <-slots }()
			u.relay(c.(*net.TCPConn))
		})
	}
}

// relay dials where a diverted connection wanted to go, from this process's
// network. The inner side believes itself connected meanwhile; if the outside
// refuses, it sees a reset.
func (u *uplink) relay(inner *net.TCPConn) {
	dst, err := iptables.OriginalDst(inner)
	if err != nil {
		u.log.Debug("pod: uplink", "error", err)
		reset(inner)
		return
	}
	target := u.outside(dst)
	d := net.Dialer{Timeout: dialTimeout}
	outer, err := d.DialContext(u.ctx, "tcp", target.String())
	if err != nil {
		u.log.Debug("pod: uplink: not connected", "destination", target, "error", err)
		reset(inner)
		return
	}
	join(u.ctx, inner, outer.(*net.TCPConn))
}

// outside maps the addresses that stand for the host.
func (u *uplink) outside(dst netip.AddrPort) netip.AddrPort {
	v4, v6 := u.net.host()
	switch dst.Addr() {
	case v4:
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), dst.Port())
	case v6:
		return netip.AddrPortFrom(netip.IPv6Loopback(), dst.Port())
	}
	return dst
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
	slots := make(chan struct{}, maxRelays)
	context.AfterFunc(n.up.ctx, func() { l.Close() }) //nolint:errcheck // nothing was written to it
	n.up.wg.Go(func() {
		for {
			slots <- struct{}{}
			outer, err := l.Accept()
			if err != nil {
				return
			}
			n.up.wg.Go(func() {
				defer func() { <-slots }()
				inner, err := n.Dial(n.up.ctx, addr)
				if err != nil {
					n.conf.Log.Debug("pod: published port: not connected", "destination", addr, "error", err)
					reset(outer.(*net.TCPConn))
					return
				}
				join(n.up.ctx, inner.(*net.TCPConn), outer.(*net.TCPConn))
			})
		}
	})
	return l, nil
}
