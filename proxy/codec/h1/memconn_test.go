package h1

import (
	"io"
	"net"
	"os"
	"sync"
	"time"
)

// memConn is one end of an in-memory connection: writes never block, reads give at
// most what step says, each end can be shut down for itself.
type memConn struct {
	in, out *memPipe
}

// memPipe is one direction.
type memPipe struct {
	mu    sync.Mutex
	moved sync.Cond
	b     []byte
	eof   bool // the writer is done
	gone  bool // the reader is
	past  bool // the read deadline has passed
	timer *time.Timer
	step  func(have int) int // nil: everything
}

func newPipe() *memPipe {
	p := &memPipe{}
	p.moved.L = &p.mu
	return p
}

func memPair() (a, b *memConn) {
	x, y := newPipe(), newPipe()
	return &memConn{in: x, out: y}, &memConn{in: y, out: x}
}

func (c *memConn) Read(p []byte) (int, error) {
	q := c.in
	q.mu.Lock()
	defer q.mu.Unlock()
	for {
		switch {
		case q.gone:
			return 0, net.ErrClosed
		case q.past:
			return 0, os.ErrDeadlineExceeded
		case len(q.b) > 0:
			n := min(len(q.b), len(p))
			if q.step != nil {
				n = max(1, min(n, q.step(n)))
			}
			n = copy(p, q.b[:n])
			q.b = q.b[n:]
			return n, nil
		case q.eof:
			return 0, io.EOF
		}
		q.moved.Wait()
	}
}

func (c *memConn) Write(p []byte) (int, error) {
	q := c.out
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.gone || q.eof {
		return 0, io.ErrClosedPipe
	}
	q.b = append(q.b, p...)
	q.moved.Broadcast()
	return len(p), nil
}

func (c *memConn) CloseWrite() error {
	c.out.set(func(q *memPipe) { q.eof = true })
	return nil
}

func (c *memConn) Close() error {
	c.in.set(func(q *memPipe) { q.gone = true })
	return c.CloseWrite()
}

func (q *memPipe) set(f func(*memPipe)) {
	q.mu.Lock()
	defer q.mu.Unlock()
	f(q)
	q.moved.Broadcast()
}

func (c *memConn) SetReadDeadline(t time.Time) error {
	c.in.set(func(q *memPipe) {
		if q.timer != nil {
			q.timer.Stop()
			q.timer = nil
		}
		q.past = !t.IsZero() && !time.Now().Before(t)
		if !t.IsZero() && !q.past {
			q.timer = time.AfterFunc(time.Until(t), func() { q.set(func(q *memPipe) { q.past = true }) })
		}
	})
	return nil
}

func (c *memConn) SetWriteDeadline(time.Time) error { return nil }
func (c *memConn) SetDeadline(t time.Time) error    { return c.SetReadDeadline(t) }
func (c *memConn) LocalAddr() net.Addr              { return &net.UnixAddr{Name: "@mem"} }
func (c *memConn) RemoteAddr() net.Addr             { return &net.UnixAddr{Name: "@mem"} }
