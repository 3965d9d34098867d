package call

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/mecha-mesh/mecha/proxy/buffer"
	"github.com/mecha-mesh/mecha/proxy/cluster"
	"github.com/mecha-mesh/mecha/proxy/cluster/outlier"
	"github.com/mecha-mesh/mecha/proxy/codec"
	"github.com/mecha-mesh/mecha/proxy/header"
	"github.com/mecha-mesh/mecha/proxy/meta"
	"github.com/mecha-mesh/mecha/proxy/netio"
)

// exchange is a stream on a connection of a cluster's pool.
type exchange struct {
	w       Waiter
	cluster *cluster.Cluster
	conn    *cluster.Conn
	up      codec.ClientStream
	stop    func() bool // of the watch over the waiter's context

	mu   sync.Mutex // guards live: a waiter may go while the stream is given back
	live bool
}

// open picks a host and takes a connection to it.
func open(w Waiter, cl *cluster.Cluster, at *cluster.Attempt, until time.Time) (*exchange, error) {
	ctx := w.Context()
	host, err := cl.Pick(at)
	if err != nil {
		return nil, err
	}
	acquire := cl.Acquire
	if at.Fresh {
		acquire = cl.AcquireFresh
	}
	conn, err := acquire(ctx, host, at, until)
	if err != nil {
		var ce *cluster.ConnectError
		if errors.As(err, &ce) {
			host.Outlier().Put(outlier.ConnectFailed, 0)
		}
		return nil, gone(w, err)
	}
	up, err := conn.Open(context.Background())
	if err != nil {
		cl.Release(conn, false)
		return nil, err
	}
	x := &exchange{w: w, cluster: cl, conn: conn, up: up, live: true}
	x.stop = context.AfterFunc(ctx, x.interrupt)
	return x, nil
}

func (x *exchange) scheme() string {
	if x.conn.TLS != nil {
		return "https"
	}
	return "http"
}

// interrupt wakes whoever reads or writes, since nobody waits any more.
func (x *exchange) interrupt() {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.live {
		x.up.Interrupt()
		x.up.StopWriting()
	}
}

// report tells outlier detection what became of an exchange that nobody has given up.
func (x *exchange) report(a *Response, err error) {
	o := x.conn.Host.Outlier()
	switch code := a.Code(); {
	case o == nil, Ended(err) != nil:
	case code >= 200:
		o.Put(outlier.Connected, 0)
		o.Code(code, a.Header.Has(header.XEnvoyDegraded))
	case errors.Is(err, ErrTimeout):
		o.Put(outlier.TimedOut, 504)
	case err != nil:
		o.Put(outlier.ConnectFailed, 0)
	}
}

// close gives the connection back. err is how the exchange ended.
func (x *exchange) close(err error) {
	x.stop()
	x.mu.Lock()
	x.live = false
	x.mu.Unlock()
	if err != nil {
		x.up.Reset(codec.ResetCancel)
		st := x.cluster.Stats()
		switch {
		case x.up.Protocol() == meta.HTTP2: // the codec counts
		case errors.Is(err, codec.ErrReset):
			st.UpstreamRqRxReset.Inc()
		case !errors.Is(err, codec.ErrClosedBeforeResponse):
			st.UpstreamRqTxReset.Inc()
		}
	}
	read, written := x.up.WireBytes()
	x.conn.CountBytes(read.Header+read.Body, written.Header+written.Body)
	if reusable := x.up.Release(); reusable || err == nil {
		x.cluster.Release(x.conn, reusable)
	} else {
		x.cluster.Abandon(x.conn)
	}
}

// read reads a whole response into a.
func (x *exchange) read(a *Response, limit int, until time.Time) error {
	next, err := x.head(&a.Header, until)
	if err != nil {
		return err
	}
	var b buffer.Buf
	defer b.Release()
	if err := x.up.SetReadDeadline(until); err != nil {
		return err
	}
	for next == codec.Data {
		if next, err = x.up.ReadData(&b); err != nil {
			return err
		}
		if b.Len() > limit {
			return ErrTooLarge
		}
	}
	if next == codec.Trailers {
		if err := x.up.ReadTrailers(&a.Trailers); err != nil {
			return err
		}
	}
	a.Body = append([]byte(nil), b.Bytes()...)
	a.Header.Keep()
	a.Trailers.Keep()
	return nil
}

// head waits for the head of the final response.
func (x *exchange) head(m *header.Map, until time.Time) (codec.Next, error) {
	for {
		m.Reset()
		next, err := x.w.Await(x.up, m, until)
		if err != nil {
			return 0, err
		}
		switch code := m.StatusCode(); {
		case code == 101:
			return 0, errUpgrade
		case code >= 200:
			return next, nil
		}
	}
}

// explain says what an error means: the waiter has gone, the time is over, or the host
// has failed.
func (x *exchange) explain(err error, until time.Time) error {
	switch {
	case !time.Now().Before(until):
		return ErrTimeout
	case hookError(err):
		return &ended{err}
	case errors.Is(err, netio.ErrInterrupted), errors.Is(err, context.Canceled):
		return gone(x.w, err)
	case isTimeout(err):
		return ErrTimeout
	}
	return err
}

// gone returns the end of the waiter in place of an error, if it has gone.
func gone(w Waiter, err error) error {
	if w.Context().Err() == nil {
		if isTimeout(err) {
			return ErrTimeout
		}
		return err
	}
	if over := w.Sleep(1); over != nil {
		return &ended{over}
	}
	return &ended{w.Context().Err()}
}

// StopWriting lets write run until a time; then it stops what that writes to up. It returns
// when write does.
func StopWriting(up codec.ClientStream, at time.Time, write func()) {
	over := make(chan struct{})
	stop := time.AfterFunc(time.Until(at), func() {
		defer close(over)
		up.StopWriting()
	})
	write()
	if !stop.Stop() {
		<-over
	}
}

// WriteWhole sends a request that is at hand as a whole. It consumes body. A host that reads
// nothing until then, if that is a time, gets no more (codec.ClientStream.StopWriting): the
// error is not about time.
func WriteWhole(up codec.ClientStream, request *header.Map, body *buffer.Buf, trailers *header.Map, until time.Time) error {
	if until.IsZero() {
		return write(up, request, body, trailers)
	}
	var err error
	StopWriting(up, until, func() { err = write(up, request, body, trailers) })
	return err
}

func write(up codec.ClientStream, request *header.Map, body *buffer.Buf, trailers *header.Map) error {
	ends := trailers.Len() == 0
	if body.Len() == 0 && ends {
		if err := up.WriteHeaders(request, true); err != nil {
			return err
		}
		return up.Flush()
	}
	if err := up.WriteHeaders(request, false); err != nil {
		return err
	}
	if err := up.WriteData(body, ends); err != nil {
		return err
	}
	if ends {
		return up.Flush()
	}
	return up.WriteTrailers(trailers)
}

// background waits for nobody: its context alone ends a call.
type background struct{ ctx context.Context }

// Background is who waits where no stream does, such as a fetch of keys. A call ends with
// ctx.
func Background(ctx context.Context) Waiter { return background{ctx} }

func (b background) Context() context.Context { return b.ctx }

// Sleep implements Waiter.
func (b background) Sleep(d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return b.ctx.Err()
	case <-b.ctx.Done():
		return b.ctx.Err()
	}
}

// Await implements Waiter.
func (b background) Await(up codec.ClientStream, m *header.Map, until time.Time) (codec.Next, error) {
	if err := up.SetReadDeadline(until); err != nil {
		return 0, err
	}
	return up.ReadHeaders(m)
}
