package redisproxy

import (
	"context"
	"math/rand/v2"
	"time"

	"github.com/mecha-mesh/mecha/proxy/cluster"
	"github.com/mecha-mesh/mecha/proxy/codec/resp"
)

// mirrored is a command that is sent once more, to a cluster whose reply nobody reads.
type mirrored struct {
	cluster string
	hash    uint64
	args    [][]byte
}

// mirrorQueue bounds what waits to be mirrored; what comes then is dropped and counted.
const mirrorQueue = 1024

// startMirror starts the one goroutine that mirrors, if there is anything to mirror.
func (p *proxy) startMirror() (stop func()) {
	if !p.c.Routes.mirrored() {
		return func() {}
	}
	p.mirror = make(chan mirrored, mirrorQueue)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for {
			select {
			case <-ctx.Done():
				return
			case m := <-p.mirror:
				p.shadow(ctx, m)
			}
		}
	}()
	return func() { cancel(); <-ended }
}

func (r *routes) mirrored() bool {
	for _, to := range r.byPrefix {
		if len(to.mirrors) > 0 {
			return true
		}
	}
	return r.rest != nil && len(r.rest.mirrors) > 0
}

// shadow sends a command and drops the reply.
func (p *proxy) shadow(ctx context.Context, m mirrored) {
	cl := p.clusters.Cluster(m.cluster)
	if cl == nil {
		return
	}
	a := &cluster.Attempt{Hash: m.hash, HasHash: true}
	h, err := cl.Pick(a)
	if err != nil {
		return
	}
	l, err := p.pool.borrow(ctx, cl, h, a, time.Now())
	if err != nil {
		return
	}
	resp.AppendArgs(&l.out, m.args)
	l.sent(true)
	l.expect(time.Now().Add(p.c.OpTimeout))
	l.flush(false)
	if _, err := l.head(); err == nil {
		l.came()
		_ = l.body(nil, nil) // the link knows it, and nobody else wants to
	}
	p.pool.giveBack(l, time.Now())
}

// mirrorTo mirrors a command as its route says. args is what the host gets, hash that of its
// key.
func (s *session) mirrorTo(to *route, c *command, hash uint64, args [][]byte) {
	for i := range to.mirrors {
		m := &to.mirrors[i]
		if m.writes && !c.write || !m.share.On(s.runtime).Match(rand.Uint64()) {
			continue
		}
		select {
		case s.mirror <- mirrored{m.cluster, hash, cloneAll(args)}:
		default:
			s.s.MirrorLost.Inc()
		}
	}
}
