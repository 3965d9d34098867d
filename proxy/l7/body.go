package l7

import (
	"errors"
	"os"
	"time"

	"github.com/mecha-mesh/mecha/proxy/buffer"
	"github.com/mecha-mesh/mecha/proxy/codec"
	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/meta"
	"github.com/mecha-mesh/mecha/proxy/netio"
)

// Recv implements filter.Engine: first what BufferRequest read ahead, then what the
// client sends, each piece through the request hooks.
func (st *stream) Recv(b *buffer.Buf) (codec.Next, error) {
	if st.hasBuffer {
		st.hasBuffer = false
		if n := st.buffered.Len(); n > 0 || st.next.get() == codec.End {
			b.MoveAll(&st.buffered)
			if st.unseen {
				st.unseen = false
				if err := st.showData(b, st.next.get() == codec.End); err != nil {
					return 0, err
				}
				return st.next.get(), st.requestTrailers()
			}
			return st.next.get(), nil // the hooks have seen it
		}
	}
	return st.receive(b)
}

// receive reads one piece from the client and runs the request hooks on it.
func (st *stream) receive(b *buffer.Buf) (codec.Next, error) {
	if st.next.get() != codec.Data {
		return st.next.get(), st.requestTrailers()
	}
	before := b.Len()
	next, err := st.readPiece(b)
	if err != nil {
		return 0, st.bodyError(err)
	}
	st.noteMoved()
	st.monitor.Lock()
	defer st.monitor.Unlock()
	st.next.set(next)
	st.Meta.BytesReceived += int64(b.Len() - before)
	if next == codec.End {
		st.Meta.RequestEnd = time.Since(st.Meta.Start)
	}
	if err := st.showData(b, next == codec.End); err != nil {
		return 0, err
	}
	if next == codec.Trailers {
		return next, st.readTrailers()
	}
	return next, nil
}

// showData runs the request hooks on a piece of the body.
func (st *stream) showData(b *buffer.Buf, end bool) error {
	for _, h := range st.chain.requestData {
		if st.off&(1<<h.index) != 0 {
			continue
		}
		if err := h.f.OnRequestData(&st.Stream, b, end); err != nil {
			return err
		}
	}
	return nil
}

// requestTrailers is called for a stream whose request has no more body.
func (st *stream) requestTrailers() error {
	if st.next.get() != codec.Trailers || st.RequestTrailers.Len() > 0 && !st.unshown {
		return nil
	}
	st.monitor.Lock()
	defer st.monitor.Unlock()
	if st.unshown {
		return st.showTrailers()
	}
	return st.readTrailers()
}

// readTrailers reads the request trailers and shows them to the hooks.
func (st *stream) readTrailers() error {
	if err := st.down.ReadTrailers(&st.RequestTrailers); err != nil {
		return st.bodyError(err)
	}
	st.Meta.RequestEnd = time.Since(st.Meta.Start)
	return st.showTrailers()
}

// showTrailers runs the request hooks on the trailers.
func (st *stream) showTrailers() error {
	st.unshown = false
	for _, h := range st.chain.requestTrailers {
		if st.off&(1<<h.index) != 0 {
			continue
		}
		if err := h.f.OnRequestTrailers(&st.Stream); err != nil {
			return err
		}
	}
	return nil
}

// readPiece reads from the client. Its silence is not idleness while the response moves.
func (st *stream) readPiece(b *buffer.Buf) (codec.Next, error) {
	for {
		hard := st.bodyDeadline()
		d := hard
		if st.idle > 0 {
			if t := time.Now().Add(st.idle); d.IsZero() || t.Before(d) {
				d = t
			}
		}
		if err := st.down.SetReadDeadline(d); err != nil {
			return 0, errGone
		}
		next, err := st.down.ReadData(b)
		if !isTimeout(err) || d == hard || time.Since(time.Unix(0, st.moved.Load())) >= st.idle {
			return next, err
		}
	}
}

// bodyDeadline is when the request has to be there, idle or not; zero: no time.
func (st *stream) bodyDeadline() time.Time {
	spec := st.m.spec
	d := st.end
	if spec.RequestTimeout > 0 && st.upgrade == "" {
		if t := st.Meta.Start.Add(spec.RequestTimeout); d.IsZero() || t.Before(d) {
			d = t
		}
	}
	return d
}

func (st *stream) bodyError(err error) error {
	var bad *codec.ProtocolError
	switch {
	case errors.As(err, &bad):
		st.m.counters.CxProtocol.Inc()
		st.broken = true
		st.conn.version.spoil()
		if !st.started && bad.Code != 0 {
			return badRequest(bad)
		}
		return &filter.Error{Source: filter.Downstream, Flag: meta.DownstreamProtocolError, Text: bad.Details, Err: err}
	case errors.Is(err, netio.ErrInterrupted):
		return err
	case errors.Is(err, os.ErrDeadlineExceeded):
		return st.timedOut()
	}
	return errGone
}

// BufferRequest implements filter.Engine.
func (st *stream) BufferRequest(limit int) (*buffer.Buf, error) {
	for st.next.get() == codec.Data {
		if _, err := st.receive(&st.buffered); err != nil {
			return nil, err
		}
		st.hasBuffer = true
		if st.buffered.Len() > limit {
			st.m.counters.RqTooLarge.Inc()
			return nil, &replyTooLarge
		}
	}
	return &st.buffered, nil
}

// keep copies references of what was sent into the replay buffer, and gives up
// keeping when there is more than it may hold.
func keep(r *filter.Replay, b *buffer.Buf, end bool) {
	if r == nil || r.Overflow {
		return
	}
	r.Ended = end
	if r.Buf.Len()+b.Len() > r.Limit {
		r.Overflow = true
		r.Buf.Release()
		return
	}
	b.Share(&r.Buf, b.Len())
}

// relayRequestTrailers ends the request to upstream.
func (st *stream) relayRequestTrailers(up codec.ClientStream, r *filter.Replay) error {
	if r != nil {
		r.Ended, r.Trailers = true, true
	}
	st.Meta.UpstreamEnd = time.Since(st.Meta.Start)
	st.next.set(codec.End)
	if st.RequestTrailers.Len() == 0 {
		return writeFailed(up.WriteData(&st.piece, true))
	}
	return writeFailed(up.WriteTrailers(&st.RequestTrailers))
}

func flushUp(up codec.ClientStream) error { return writeFailed(up.Flush()) }

// writeFailed marks an error of writing to upstream as upstream's.
func writeFailed(err error) error {
	if err == nil {
		return nil
	}
	return &filter.Error{
		Source: filter.Upstream, Retry: filter.IfReused, Flag: meta.UpstreamConnectionTermination,
		Text: "connection_termination", Err: err,
	}
}
