package health

import (
	"context"
	"errors"
	"os"
	"sync"
	"time"

	"github.com/mecha-mesh/mecha/proxy/codec"
	"github.com/mecha-mesh/mecha/proxy/codec/h1"
	"github.com/mecha-mesh/mecha/proxy/codec/h2"
	"github.com/mecha-mesh/mecha/proxy/netio"
)

// check makes one check of whatever kind.
func (c *Checker) check(ctx context.Context, s *Session) result {
	f := c.config
	switch {
	case f.HTTP != nil:
		return s.link.twice(ctx, func() (result, error) { return f.HTTP.check(ctx, s) })
	case f.GRPC != nil:
		return s.link.twice(ctx, func() (result, error) { return f.GRPC.check(ctx, s) })
	}
	return s.link.twice(ctx, func() (result, error) { return f.TCP.check(ctx, &s.link) })
}

// link is the connection of a session. One goroutine uses it at a time.
type link struct {
	dial func(ctx context.Context) (*netio.Conn, error)
	conn *netio.Conn      // nil: there is none
	http codec.ClientConn // on conn, which it closes
	used bool
}

// twice makes a check, and again on a new connection if a kept one was found dead: that it
// was closed between checks says nothing about the host.
func (l *link) twice(ctx context.Context, check func() (result, error)) result {
	if l.http != nil && !l.http.Alive() {
		l.close()
	}
	kept := l.used
	r, err := check()
	if err != nil && kept && ctx.Err() == nil && !errors.Is(err, os.ErrDeadlineExceeded) {
		l.close()
		r, err = check()
	}
	switch {
	case err == nil:
		l.used = l.conn != nil
		return r
	case errors.Is(ctx.Err(), context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded):
		return result{outcome: late}
	}
	return result{outcome: lost}
}

// open makes the connection unless there is one.
func (l *link) open(ctx context.Context) (err error) {
	if l.conn == nil {
		if l.conn, err = l.dial(ctx); err != nil {
			l.conn = nil
			return err
		}
	}
	until, _ := ctx.Deadline()
	return l.conn.SetDeadline(until)
}

// stream begins an exchange. end gives the stream back, and closes the connection if it
// can carry no other one.
func (l *link) stream(ctx context.Context, http2 bool) (up codec.ClientStream, end func(), err error) {
	if l.http == nil {
		if err := l.open(ctx); err != nil {
			return nil, nil, err
		}
		if http2 {
			_ = l.conn.SetDeadline(time.Time{}) // its goroutine reads at all times
			l.http = h2.NewClient(l.conn, h2.ClientOptions{})
		} else {
			l.http = h1.NewClient(l.conn, h1.ClientOptions{})
		}
	}
	until, _ := ctx.Deadline()
	if !http2 {
		if err := l.conn.SetWriteDeadline(until); err != nil {
			return nil, nil, err
		}
	}
	if up, err = l.http.Open(ctx); err != nil {
		return nil, nil, err
	}
	if err := up.SetReadDeadline(until); err != nil {
		up.Release()
		return nil, nil, err
	}
	var mu sync.Mutex
	live := true
	stop := context.AfterFunc(ctx, func() {
		mu.Lock()
		defer mu.Unlock()
		if live {
			up.Interrupt()
		}
	})
	return up, func() {
		stop()
		mu.Lock()
		live = false
		mu.Unlock()
		if !up.Release() {
			l.close()
		}
	}, nil
}

func (l *link) close() {
	switch {
	case l.http != nil:
		_ = l.http.Close() // nobody is left to tell
	case l.conn != nil:
		_ = l.conn.Close()
	}
	l.http, l.conn, l.used = nil, nil, false
}
