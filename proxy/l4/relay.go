package l4

import (
	"errors"
	"io"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/mecha-mesh/mecha/proxy/buffer"
	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/netio"
)

// relay is the state of one Relay: two directions, each on its own goroutine.
type relay struct {
	c       *conn
	down    *netio.Conn
	up      filter.Peer
	sock    *netio.Conn // up if it is one and its bytes may be spliced
	in, out netio.Pump  // from and to downstream
	clock   atomic.Int64
	start   time.Time
	idle    time.Duration
	timer   *time.Timer
	both    sync.WaitGroup
	outRun  func() // made once
	stop    func() bool

	mu   sync.Mutex
	over bool // both directions have ended, or one has failed
	res  filter.RelayResult
	err  error
}

// relays is a pool of relays: free memory, no state.
var relays = sync.Pool{New: func() any {
	r := &relay{}
	r.outRun = func() {
		defer r.both.Done()
		r.direction(&r.out, r.down, r.sock, filter.Upstream, filter.Downstream)
	}
	r.stop = func() bool { return r.c.Ending() }
	return r
}}

// Relay implements filter.ConnEngine.
func (c *conn) Relay(up filter.Peer, o filter.RelayOptions) (filter.RelayResult, error) {
	r := relays.Get().(*relay)
	res, err := r.run(c, up, o)
	relays.Put(r)
	return res, err
}

func (r *relay) run(c *conn, up filter.Peer, o filter.RelayOptions) (filter.RelayResult, error) {
	r.mu.Lock() // a late tick of the last run may look
	r.c, r.down, r.up, r.idle = c, c.sock, up, o.Idle
	if r.sock = nil; c.Plain() {
		r.sock, _ = up.(*netio.Conn)
	}
	r.over, r.res, r.err = false, filter.RelayResult{}, nil
	r.start = time.Now()
	r.clock.Store(0)
	r.mu.Unlock()
	for _, p := range []*netio.Pump{&r.in, &r.out} {
		p.Moved.Store(0)
		p.Clock, p.Start, p.Stop = &r.clock, r.start, nil
		if o.Drain {
			p.Stop = r.stop
		}
	}
	c.setOther(up)
	r.startTimer()
	r.both.Add(1)
	go r.outRun()
	r.direction(&r.in, r.sock, r.down, filter.Downstream, filter.Upstream)
	r.both.Wait()
	return r.end()
}

// end tells what happened.
func (r *relay) end() (filter.RelayResult, error) {
	r.mu.Lock()
	r.over = true
	if r.timer != nil {
		r.timer.Stop() // a tick that runs already finds over set
	}
	res, err := r.res, r.err
	r.mu.Unlock()
	r.c.setOther(nil)
	res.Received, res.Sent = r.in.Moved.Load(), r.out.Moved.Load()
	r.c.rst = res.Reset
	r.c, r.down, r.up, r.sock = nil, nil, nil, nil
	r.in.Stop, r.out.Stop = nil, nil
	return res, err
}

// direction moves bytes one way and passes the end of the stream on. dst and src are nil
// where they are no sockets both.
func (r *relay) direction(p *netio.Pump, dst, src *netio.Conn, from, to filter.Source) {
	var err error
	switch {
	case r.sock != nil:
		err = p.Run(dst, src, -1)
		if err == nil {
			err = closeWrite(dst)
		}
	case from == filter.Downstream:
		err = r.receive(p)
	default:
		err = r.send(p)
	}
	if err == nil {
		return
	}
	var we *netio.WriteError
	if errors.As(err, &we) {
		from, err = to, we.Err
	}
	r.fail(from, err)
}

func closeWrite(c filter.Peer) error {
	if err := c.CloseWrite(); err != nil {
		return &netio.WriteError{Err: err}
	}
	return nil
}

// receive moves bytes from downstream through the read hooks.
func (r *relay) receive(p *netio.Pump) error {
	var b buffer.Buf
	for {
		end, err := r.c.Recv(&b)
		if err != nil {
			return err
		}
		n, stop := int64(b.Len()), p.Stop != nil && p.Stop()
		if err := r.up.WriteBuf(&b); err != nil {
			return &netio.WriteError{Err: err}
		}
		r.moved(p, n)
		if end {
			return closeWrite(r.up)
		}
		if stop {
			return netio.ErrStopped
		}
	}
}

// send moves bytes to downstream through the write hooks.
func (r *relay) send(p *netio.Pump) error {
	var b buffer.Buf
	for {
		_, err := r.up.ReadBuf(&b)
		end := err == io.EOF
		if err != nil && !end {
			return err
		}
		n, stop := int64(b.Len()), p.Stop != nil && p.Stop()
		if err := r.c.Send(&b, end); err != nil {
			return &netio.WriteError{Err: err}
		}
		r.moved(p, n)
		if end {
			return nil
		}
		if stop {
			return netio.ErrStopped
		}
	}
}

func (r *relay) moved(p *netio.Pump, n int64) {
	p.Moved.Add(n)
	r.clock.Store(int64(time.Since(r.start)))
}

// fail ends both directions because one has failed. Only the first failure counts:
// what follows is its consequence.
func (r *relay) fail(whose filter.Source, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.over {
		return
	}
	r.over = true
	r.err = err
	if !errors.Is(err, netio.ErrInterrupted) && !errors.Is(err, netio.ErrStopped) {
		r.res.Ended = whose
	}
	r.res.Reset = errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
	r.down.Cut()
	r.up.Cut()
}

// errIdle is the end of a relay that was silent for too long.
var errIdle = errors.New("l4: idle timeout")

// startTimer begins to watch for silence. The timer is moved only when it fires;
// each chunk just stores the time.
func (r *relay) startTimer() {
	if r.idle <= 0 {
		return
	}
	if r.timer == nil {
		r.timer = time.AfterFunc(r.idle, r.tick)
		return
	}
	r.timer.Reset(r.idle)
}

func (r *relay) tick() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.over || r.idle <= 0 {
		return
	}
	if left := r.idle - (time.Since(r.start) - time.Duration(r.clock.Load())); left > 0 {
		r.timer.Reset(left)
		return
	}
	r.over = true
	r.res.Timeout = true
	r.err = errIdle
	r.down.Cut()
	r.up.Cut()
}
