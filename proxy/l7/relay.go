package l7

import (
	"errors"
	"strings"
	"time"

	"github.com/mecha-mesh/mecha/proxy/codec"
	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/header"
	"github.com/mecha-mesh/mecha/proxy/meta"
	"github.com/mecha-mesh/mecha/proxy/netio"
)

// watchStep is how long a stream waits for upstream before it looks, at growing
// intervals, whether its client is still there. One goroutine can wait for one
// socket only; a look costs one system call and happens for slow requests only.
const (
	watchStep = 100 * time.Millisecond
	watchMost = 2 * time.Second
)

// watch bounds the waits of one read.
type watch struct {
	until time.Time // zero: never
	step  time.Duration
}

func (w *watch) next(t time.Time) time.Time {
	if w.step == 0 {
		w.step = watchStep
	} else {
		w.step = min(2*w.step, watchMost)
	}
	d := t.Add(w.step)
	if !w.until.IsZero() && w.until.Before(d) {
		return w.until
	}
	return d
}

// woken says what an error of a read from upstream means: it may be the client's leaving.
func (st *stream) woken(err error) error {
	if err != nil && st.shared != nil && st.away.Load() && errors.Is(err, netio.ErrInterrupted) {
		return st.absent(nil)
	}
	return err
}

// errUpstreamTimeout is what Await and RelayResponse return at their deadline.
var errUpstreamTimeout = &filter.Error{Source: filter.Upstream, Flag: meta.UpstreamRequestTimeout, Text: "upstream_response_timeout", Code: 504}

// waited is called when a read from upstream ran into the watch's deadline: nil
// means wait on.
func (st *stream) waited(w *watch) error {
	st.logInTime()
	if !w.until.IsZero() && !st.Now().Before(w.until) {
		return errUpstreamTimeout
	}
	if st.gone() {
		return st.absent(nil)
	}
	return nil
}

// Await implements filter.Engine.
func (st *stream) Await(up codec.ClientStream, m *header.Map, until time.Time) (codec.Next, error) {
	if !st.await(up) {
		return 0, st.absent(nil)
	}
	defer st.await(nil)
	w := watch{until: st.soonest(until)}
	for {
		if err := up.SetReadDeadline(st.wake(&w)); err != nil {
			return 0, err
		}
		next, err := up.ReadHeaders(m)
		st.Tick()
		if err == nil || !netio.IsTimeout(err) {
			return next, st.woken(err)
		}
		if err = st.waited(&w); err == errUpstreamTimeout {
			err = st.expired(until)
			w.until = st.soonest(until)
		}
		if err != nil {
			return 0, err
		}
	}
}

// RelayResponse implements filter.Engine.
func (st *stream) RelayResponse(up codec.ClientStream, next codec.Next, until time.Time) error {
	if !st.await(up) {
		return st.absent(nil)
	}
	defer st.await(nil)
	for next == codec.Data {
		waits := !up.BufferedData()
		if waits {
			if err := st.down.Flush(); err != nil {
				return st.unsent(err)
			}
			st.Tick() // the client may have kept us waiting
			if n, ok, err := st.spliceResponse(up, until); ok {
				if err != nil {
					return relayError(up, err)
				}
				next = n
				continue
			}
		}
		w := watch{until: st.soonest(until)}
		var err error
		if next, err = st.readResponse(up, &w); err == errUpstreamTimeout {
			if err = st.expired(until); err == nil {
				next = codec.Data
				continue
			}
		}
		if err != nil {
			st.answer.Release()
			return relayError(up, err)
		}
		if waits {
			st.Tick()
		}
		st.noteMoved()
		if st.answer.Len() > 0 || next == codec.End {
			st.Meta.UpstreamReceived += int64(st.answer.Len())
			if err := st.SendData(&st.answer, next == codec.End); err != nil {
				return err
			}
		}
	}
	if next == codec.Trailers {
		if err := up.ReadTrailers(&st.ResponseTrailers); err != nil {
			return upstreamReset(up, err)
		}
		return st.SendTrailers()
	}
	return nil
}

// readResponse reads the next piece of the response body into st.answer.
func (st *stream) readResponse(up codec.ClientStream, w *watch) (codec.Next, error) {
	for {
		if err := up.SetReadDeadline(st.wake(w)); err != nil {
			return 0, err
		}
		next, err := up.ReadData(&st.answer)
		if err == nil || !netio.IsTimeout(err) {
			return next, st.woken(err)
		}
		st.Tick()
		if err := st.waited(w); err != nil {
			return 0, err
		}
	}
}

// relayError passes on what is known already and explains what upstream did.
func relayError(up codec.ClientStream, err error) error {
	var reply *filter.Reply
	var fe *filter.Error
	if errors.As(err, &reply) || errors.As(err, &fe) {
		return err
	}
	return upstreamReset(up, err)
}

// upstreamReset is a response that broke off. Envoy calls the end of an HTTP/1 connection
// a protocol error: the message is not complete. Where a filter has kept all of it back, the
// client is answered.
func upstreamReset(up codec.ClientStream, err error) error {
	flag, reason := meta.UpstreamProtocolError, "protocol_error"
	var bad *codec.ProtocolError
	switch {
	case errors.Is(err, codec.ErrRefused):
		flag, reason = meta.UpstreamRemoteReset, "remote_refused_stream_reset"
	case errors.Is(err, codec.ErrReset):
		flag, reason = meta.UpstreamRemoteReset, "remote_reset"
	case up.Protocol() == meta.HTTP2 && !errors.As(err, &bad):
		flag, reason = meta.UpstreamConnectionTermination, "connection_termination"
	}
	return &filter.Error{
		Source: filter.Upstream, Flag: flag, Text: "upstream_reset_after_response_started{" + reason + "}", Err: err, Code: 503,
		Body: "upstream connect error or disconnect/reset before headers. reset reason: " + strings.ReplaceAll(reason, "_", " "),
	}
}

// maxLooks bounds how often the goroutine of the response takes what has arrived of the
// request body: a client that is never out of data must not keep an early response back.
const maxLooks = 4

// atHand reports whether more of the request body can be had without waiting. Before a
// second goroutine is borrowed for the rest, it is worth looking into the socket.
func (st *stream) atHand(look bool) bool {
	if st.down.BufferedData() {
		return true
	}
	if p, ok := st.down.(codec.BodyPeeker); ok && look {
		return p.PeekBody()
	}
	return false
}

// RelayRequest implements filter.Engine.
func (st *stream) RelayRequest(up codec.ClientStream, replay *filter.Replay, inline bool) (codec.Next, error) {
	if inline && st.inPace.on() && st.RequestBody() == codec.Data {
		st.inPace.restart()
		return codec.Data, flushUp(up)
	}
	for looks := 0; ; looks++ {
		if st.next.get() == codec.Data && !st.hasBuffer && !st.inPace.holding.Load() && !st.atHand(inline && looks < maxLooks) {
			if err := flushUp(up); err != nil || inline {
				return codec.Data, err
			}
		}
		next, err := st.takePiece(replay)
		if err != nil {
			st.piece.Release()
			return 0, err
		}
		if w, ok := up.(codec.Patient); ok && inline && !w.Fits(st.piece.Len()) {
			st.kept, st.keptNext = true, next // there may be an answer before there is room
			return codec.Data, flushUp(up)
		}
		end := next == codec.End
		if st.piece.Len() > 0 || end {
			if err := up.WriteData(&st.piece, end); err != nil {
				return 0, writeFailed(err)
			}
		}
		switch next {
		case codec.End:
			return codec.End, nil
		case codec.Trailers:
			return codec.End, st.relayRequestTrailers(up, replay)
		}
	}
}

// takePiece makes st.piece the next one of the request body that is to go up.
func (st *stream) takePiece(replay *filter.Replay) (codec.Next, error) {
	if st.kept {
		st.kept = false
		return st.keptNext, nil
	}
	next, err := st.Recv(&st.piece)
	if err != nil {
		return 0, err
	}
	end := next == codec.End
	if end && st.shared == nil && st.upgraded() {
		return 0, errGone // the end of a connection, of which no half goes on
	}
	keep(replay, &st.piece, end)
	st.noteSent(st.piece.Len(), end)
	return next, nil
}

// noteSent counts a piece of the request body on its way up, and its end.
func (st *stream) noteSent(n int, end bool) {
	st.monitor.Lock()
	defer st.monitor.Unlock()
	st.Meta.UpstreamSent += int64(n)
	if end {
		st.Meta.UpstreamEnd = time.Since(st.Meta.Start)
	}
}
