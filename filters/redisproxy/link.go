package redisproxy

import (
	"context"
	"errors"
	"io"
	"sync"
	"time"

	"github.com/mecha-mesh/mecha/proxy/buffer"
	"github.com/mecha-mesh/mecha/proxy/cluster"
	"github.com/mecha-mesh/mecha/proxy/cluster/outlier"
	"github.com/mecha-mesh/mecha/proxy/codec/resp"
	"github.com/mecha-mesh/mecha/proxy/netio"
)

// link is a connection to a host. Whoever has borrowed it is the only one to use it.
type link struct {
	up      *cluster.TCPConn
	cluster *cluster.Cluster
	host    *cluster.Host
	out, in buffer.Buf
	scan    resp.Scanner
	due     []bool // replies that are to come, in order: whether somebody waits for them
	db      int    // SELECTed
	idled   time.Time
	err     error // it is of no use any more
}

// errRefused is a host that does not take our credentials, version or database.
var errRefused = errors.New("redis_proxy: the host refused what the proxy says first")

// errEarly is a host that says something while it takes no more of what it is told.
var errEarly = errors.New("redis_proxy: the host answers what it has not read")

// greet says what comes before the first command.
func (l *link) greet(version int, o *cluster.RedisOptions) {
	switch {
	case version == 3 && o != nil && o.Password != "":
		name := o.User
		if name == "" {
			name = "default"
		}
		resp.AppendCommand(&l.out, "HELLO", "3", "AUTH", name, o.Password)
	case version == 3:
		resp.AppendCommand(&l.out, "HELLO", "3")
	case o != nil && o.User != "":
		resp.AppendCommand(&l.out, "auth", o.User, o.Password)
	case o != nil && o.Password != "":
		resp.AppendCommand(&l.out, "auth", o.Password)
	default:
		return
	}
	l.sent(false)
}

// sent notes that a command was appended. wanted tells whether somebody waits for its reply.
func (l *link) sent(wanted bool) { l.due = append(l.due, wanted) }

// came notes that a reply was read.
func (l *link) came() {
	if l.due = l.due[1:]; len(l.due) == 0 {
		l.due = nil
	}
}

// fail ends the link and tells why to who asks. It is the first reason that counts.
func (l *link) fail(err error) error {
	if l.err == nil {
		l.err = err
		switch {
		case netio.IsTimeout(err):
			l.cluster.Stats().UpstreamRqTimeout.Inc()
			l.host.Outlier().Put(outlier.TimedOut, 0)
		case errors.Is(err, errRefused), errors.Is(err, netio.ErrInterrupted):
			// That is no fault of the host: our credentials, or a client that has gone.
		default:
			l.host.Outlier().Put(outlier.ConnectFailed, 0)
		}
		l.close()
	}
	return l.err
}

// close is called once or more.
func (l *link) close() {
	_ = l.up.Close() // it is of no use
	l.out.Release()
	l.in.Release()
	if l.err == nil {
		l.err = io.ErrClosedPipe
	}
}

// expect bounds how long the host may take to answer; LimitStall bounds how long it may take
// nothing.
func (l *link) expect(until time.Time) {
	_ = l.up.SetReadDeadline(until) // fails only on a closed socket, as what follows will
}

// flush sends what has been appended. alone tells that nothing else is to be sent before
// the replies are read: then it waits for the first of them, too.
func (l *link) flush(alone bool) {
	if l.err != nil || l.out.Len() == 0 {
		return
	}
	var err error
	if alone && l.in.Len() == 0 {
		var sent bool
		if _, sent, err = l.up.Exchange(&l.out, &l.in); err == nil && !sent {
			err = errEarly
		}
	} else {
		err = l.up.WriteBuf(&l.out)
	}
	if err != nil {
		_ = l.fail(err) // whoever reads is told
	}
}

// more reads once.
func (l *link) more() error {
	if l.err != nil {
		return l.err
	}
	if _, err := l.up.ReadBuf(&l.in); err != nil {
		return l.fail(err)
	}
	return nil
}

// heading waits for the first byte of what comes next, and returns it.
func (l *link) heading() (byte, error) {
	for l.in.Len() == 0 {
		if err := l.more(); err != nil {
			return 0, err
		}
	}
	return l.in.First()[0], nil
}

// head waits for the next reply and returns its kind. Replies to what the proxy said by
// itself, and pushes, are dropped.
func (l *link) head() (byte, error) {
	for {
		kind, err := l.heading()
		if err != nil {
			return 0, err
		}
		mine := kind == resp.Push // answers nothing
		if !mine && (len(l.due) == 0 || l.due[0]) {
			return kind, nil
		}
		if err := l.body(nil, nil); err != nil {
			return 0, err
		}
		switch {
		case mine:
		case kind == resp.Error || kind == resp.BulkError:
			return 0, l.fail(errRefused)
		default:
			l.came()
		}
	}
}

// settle waits for the replies to what the proxy has said by itself, where nobody waits for
// others.
func (l *link) settle() error {
	l.flush(false)
	for len(l.due) > 0 {
		kind, err := l.heading()
		if err == nil {
			err = l.body(nil, nil)
		}
		switch {
		case err != nil:
			return err
		case kind == resp.Error || kind == resp.BulkError:
			return l.fail(errRefused)
		case kind != resp.Push:
			l.came()
		}
	}
	return nil
}

// spillAt is how much of a reply is gathered before it goes on its way.
const spillAt = 64 << 10

// body moves the next value to dst, or drops it if dst is nil. Now and then it calls spill,
// which may be nil, to make room in dst.
func (l *link) body(dst *buffer.Buf, spill func() error) error {
	l.scan.Reset()
	for {
		done, err := l.step(dst)
		if done || err != nil {
			return err
		}
		if spill != nil && dst.Len() >= spillAt {
			if err := spill(); err != nil {
				return l.fail(err)
			}
		}
		if err := l.more(); err != nil {
			return err
		}
	}
}

// step moves bytes of the value to dst as far as they are there, and reports whether that
// was the end of it.
func (l *link) step(dst *buffer.Buf) (done bool, err error) {
	n := 0
	for i := 0; i < l.in.Segments() && !done; i++ {
		k, over, err := l.scan.Scan(l.in.Segment(i))
		if err != nil {
			return false, l.fail(err)
		}
		n, done = n+k, over
	}
	if dst == nil {
		l.in.Discard(n)
	} else {
		dst.Move(&l.in, n)
	}
	return done, nil
}

// pool keeps links that nobody uses.
type pool struct {
	c     *Config
	mu    sync.Mutex
	idle  map[*cluster.Host][]*link
	sweep *time.Timer
	over  bool
}

const (
	// maxIdle is how long a link is kept, and how many there are of a host at most.
	maxIdle     = time.Minute
	maxIdleEach = 256
	// trusted is how long an idle link is used again without a look at its socket.
	trusted = 100 * time.Microsecond
)

func newPool(c *Config) *pool { return &pool{c: c, idle: map[*cluster.Host][]*link{}} }

// borrow returns a link to a host: the one that was used last, or a new one.
func (p *pool) borrow(ctx context.Context, c *cluster.Cluster, h *cluster.Host, a *cluster.Attempt, now time.Time) (*link, error) {
	for {
		l := p.take(h)
		if l == nil {
			break
		}
		if now.Sub(l.idled) < trusted || !l.up.PeerClosed() {
			return l, nil
		}
		l.close()
	}
	up, err := c.Dial(ctx, h, a)
	if err != nil {
		return nil, err
	}
	st := c.Stats()
	up.CountInto(&st.UpstreamCxRxBytesTotal, &st.UpstreamCxTxBytesTotal)
	up.LimitStall(p.c.OpTimeout)
	l := &link{up: up, cluster: c, host: h}
	l.greet(p.c.Version, c.Spec().Redis)
	return l, nil
}

func (p *pool) take(h *cluster.Host) *link {
	p.mu.Lock()
	defer p.mu.Unlock()
	list := p.idle[h]
	n := len(list) - 1
	if n < 0 {
		return nil
	}
	l := list[n]
	list[n] = nil
	if n == 0 {
		delete(p.idle, h)
	} else {
		p.idle[h] = list[:n]
	}
	return l
}

// giveBack takes a link that owes nothing.
func (p *pool) giveBack(l *link, now time.Time) {
	if len(l.due) > 0 || l.in.Len() > 0 || l.out.Len() > 0 || l.err != nil {
		l.close()
		return
	}
	l.idled = now
	p.mu.Lock()
	full := p.over || len(p.idle[l.host]) >= maxIdleEach
	if !full {
		p.idle[l.host] = append(p.idle[l.host], l)
		if p.sweep == nil {
			p.sweep = time.AfterFunc(maxIdle, p.prune)
		}
	}
	p.mu.Unlock()
	if full {
		l.close()
	}
}

// prune closes what was idle for too long.
func (p *pool) prune() {
	old := p.expired(time.Now().Add(-maxIdle))
	for _, l := range old {
		l.close()
	}
}

func (p *pool) expired(before time.Time) (old []*link) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for h, list := range p.idle {
		n := 0
		for n < len(list) && !list[n].idled.After(before) { // the oldest is first
			n++
		}
		old = append(old, list[:n]...)
		if n == len(list) {
			delete(p.idle, h)
		} else {
			p.idle[h] = append([]*link(nil), list[n:]...)
		}
	}
	p.sweep = nil
	if len(p.idle) > 0 {
		p.sweep = time.AfterFunc(maxIdle/2, p.prune)
	}
	return old
}

func (p *pool) close() {
	p.mu.Lock()
	p.over = true
	all := p.idle
	p.idle = nil
	if p.sweep != nil {
		p.sweep.Stop()
	}
	p.mu.Unlock()
	for _, list := range all {
		for _, l := range list {
			l.close()
		}
	}
}
