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
	if st.inPace.on() {
		return st.recvPaced(b)
	}
	return st.recv(b)
}

// recv is Recv at the speed of the client.
func (st *stream) recv(b *buffer.Buf) (codec.Next, error) {
	if st.hasBuffer || st.buffered.Len() > 0 {
		st.hasBuffer = false
		if st.buffered.Len() > 0 || st.next.get() == codec.End {
			b.MoveAll(&st.buffered)
			if err := st.showAhead(b, maxFilters); err != nil {
				return 0, err
			}
			return st.next.get(), st.requestTrailers(b, maxFilters)
		}
	}
	return st.receive(b, maxFilters)
}

// receive reads one piece from the client into b, which is empty, and shows it to the
// filters before place below.
func (st *stream) receive(b *buffer.Buf, below int) (codec.Next, error) {
	if st.next.get() != codec.Data {
		return st.next.get(), st.requestTrailers(b, below)
	}
	next, err := st.readPiece(b)
	if err != nil {
		return 0, st.bodyError(err)
	}
	if b.Len() > 0 || next != codec.Data {
		st.noteMoved()
	}
	if err := st.received(b, next, below); err != nil {
		return 0, err
	}
	return st.next.get(), st.requestTrailers(b, below)
}

// received notes a piece of the request body and shows it. Who sees the end of the request
// may read when that was, without the monitor.
func (st *stream) received(b *buffer.Buf, next codec.Next, below int) error {
	st.monitor.Lock()
	defer st.monitor.Unlock()
	st.Meta.BytesReceived += int64(b.Len())
	if next == codec.End {
		st.Meta.RequestEnd = time.Since(st.Meta.Start)
	}
	st.next.set(next)
	return st.showData(b, 0, below, next == codec.End)
}

// showData runs the request hooks of the filters from one place to before another on a
// piece of the body. Trailers that one of them puts after the end are for those after it.
// The monitor is held.
func (st *stream) showData(b *buffer.Buf, from, below int, end bool) error {
	for _, h := range st.chain.requestData {
		if h.index < from || h.index >= below || st.off&(1<<h.index) != 0 {
			continue
		}
		if err := h.f.OnRequestData(&st.Stream, b, end); err != nil {
			st.refused(h.index, "refused the request body")
			return err
		}
		if end && st.RequestTrailers.Len() > 0 {
			end = false
			st.next.set(codec.Trailers)
			st.trailersRead, st.trailersSeen = true, h.index+1
		}
	}
	return nil
}

// showAhead shows what was read ahead to the filters before place below that have not
// seen it.
func (st *stream) showAhead(b *buffer.Buf, below int) error {
	if st.seen >= below {
		return nil
	}
	st.monitor.Lock()
	defer st.monitor.Unlock()
	from := st.seen
	st.seen = below
	return st.showData(b, from, below, st.next.get() == codec.End)
}

// requestTrailers reads the trailers of a request that has some and no more body, and
// shows them to the filters before place below, to each once. What they still have to say
// of the body is added to b.
func (st *stream) requestTrailers(b *buffer.Buf, below int) error {
	if st.next.get() != codec.Trailers {
		return nil
	}
	var err error
	fresh := !st.trailersRead
	if fresh { // without the monitor: they may be a long time coming
		err = st.down.ReadTrailers(&st.trailersIn)
	}
	st.monitor.Lock()
	defer st.monitor.Unlock()
	if fresh {
		if err != nil {
			st.trailersIn.Reset()
			return st.bodyError(err)
		}
		st.RequestTrailers, st.trailersIn = st.trailersIn, st.RequestTrailers
		st.trailersRead = true
		st.Meta.RequestEnd = time.Since(st.Meta.Start)
	}
	from := st.trailersSeen
	st.trailersSeen = max(from, below)
	for _, h := range st.chain.requestTrailers {
		if h.index < from || h.index >= below || st.off&(1<<h.index) != 0 {
			continue
		}
		if err := h.f.OnRequestTrailers(&st.Stream); err != nil {
			st.refused(h.index, "refused the request trailers")
			return err
		}
		if st.tail.Len() == 0 {
			continue
		}
		var last buffer.Buf
		last.MoveAll(&st.tail)
		err := st.showData(&last, h.index+1, below, false)
		b.MoveAll(&last)
		if err != nil {
			return err
		}
	}
	return nil
}

// BeforeTrailers implements filter.Engine.
func (st *stream) BeforeTrailers() *buffer.Buf { return &st.tail }

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
		polls := false
		if t := time.Now().Add(st.poll); st.poll > 0 && (d.IsZero() || t.Before(d)) {
			d, polls = t, true
		}
		if err := st.down.SetReadDeadline(d); err != nil {
			return 0, st.absent(err)
		}
		next, err := st.down.ReadData(b)
		if polls && netio.IsTimeout(err) && (st.idle <= 0 || st.still() < st.idle) {
			return codec.Data, nil
		}
		if !netio.IsTimeout(err) || d == hard || st.still() >= st.idle {
			return next, err
		}
	}
}

// still is for how long nothing has moved.
func (st *stream) still() time.Duration { return time.Since(time.Unix(0, st.moved.Load())) }

// PollRequest implements filter.Engine.
func (st *stream) PollRequest(every time.Duration) {
	if st.poll == 0 {
		st.noteMoved()
	}
	st.poll = every
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
		st.conn.version.violated()
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
	return st.absent(err)
}

// BufferRequest implements filter.Engine.
func (st *stream) BufferRequest(limit int) (*buffer.Buf, error) {
	below, err := st.seeAhead()
	if err != nil {
		return nil, err
	}
	for st.next.get() == codec.Data {
		if err := st.readAhead(below); err != nil {
			return nil, err
		}
		if st.buffered.Len() > limit {
			st.m.counters.RqTooLarge.Inc()
			return nil, &replyTooLarge
		}
	}
	return &st.buffered, st.requestTrailers(&st.buffered, below)
}

// BufferStart implements filter.Engine.
func (st *stream) BufferStart(limit int) (b *buffer.Buf, all bool, err error) {
	below, err := st.seeAhead()
	if err != nil {
		return nil, false, err
	}
	for st.next.get() == codec.Data && st.buffered.Len() < limit {
		if err := st.readAhead(below); err != nil {
			return nil, false, err
		}
	}
	return &st.buffered, st.next.get() != codec.Data, st.requestTrailers(&st.buffered, below)
}

// BufferNext implements filter.Engine.
func (st *stream) BufferNext() (b *buffer.Buf, more, all bool, err error) {
	below, err := st.seeAhead()
	if err != nil {
		return nil, false, false, err
	}
	if st.next.get() == codec.Data {
		if more = st.atHand(true); !more {
			return &st.buffered, false, false, nil
		}
		if err := st.readAhead(below); err != nil {
			return nil, false, false, err
		}
	}
	return &st.buffered, more, st.next.get() != codec.Data, st.requestTrailers(&st.buffered, below)
}

// seeAhead shows what was read ahead to the filters up to the one that asks for more, whose
// next place it returns.
func (st *stream) seeAhead() (below int, err error) {
	below = st.serving + 1
	if st.hasBuffer {
		if err := st.showAhead(&st.buffered, below); err != nil {
			return 0, err
		}
	}
	st.seen = max(st.seen, below)
	return below, nil
}

// readAhead adds a piece to what was read ahead.
func (st *stream) readAhead(below int) error {
	if _, err := st.receive(&st.piece, below); err != nil {
		st.piece.Release()
		return err
	}
	st.buffered.MoveAll(&st.piece)
	st.hasBuffer = true
	return nil
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
	st.noteSent(0, true)
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
