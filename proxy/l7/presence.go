package l7

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"

	"github.com/mecha-mesh/mecha/proxy/codec"
	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/meta"
	"github.com/mecha-mesh/mecha/proxy/netio"
)

// presence is how a stream learns that its client does not wait for it any more. A
// client of HTTP/1 has to be looked for: see waited. One of HTTP/2 can give up a single
// stream, and the goroutine that reads the connection says so: that ends the stream's
// context and wakes it where it waits for upstream.
type presence struct {
	shared codec.Shared // the downstream stream; nil: it has the connection to itself
	leave  func()       // stream.left, made once
	away   atomic.Bool  // the client has gone, if the stream is a shared one

	mu       sync.Mutex
	outlives bool               // the client's going does not end it; see Outlive
	up       codec.ClientStream // what the stream waits for; nil: nothing that can be woken
	ctx      context.Context    // nil until somebody asks
	cancel   context.CancelFunc
}

// errGone is the end of a stream whose client has gone.
var errGone = &filter.Error{
	Source: filter.Downstream, Flag: meta.DownstreamConnectionTermination,
	Text: "downstream_remote_disconnect",
}

// errStuck is the end of a stream whose client takes nothing, on a listener with
// per_connection_buffer_high_watermark_timeout.
var errStuck = &filter.Error{
	Source: filter.Downstream, Flag: meta.DownstreamConnectionTermination,
	Text: "downstream_local_disconnect(buffer_high_watermark_timeout_reached)",
}

// The ends of streams that the client has given up (RST_STREAM).
var (
	errReset   = &filter.Error{Source: filter.Downstream, Flag: meta.DownstreamRemoteReset, Text: "http2.remote_reset"}
	errRefused = &filter.Error{Source: filter.Downstream, Flag: meta.DownstreamRemoteReset, Text: "http2.remote_refuse"}
)

// follow begins to watch the client.
func (st *stream) follow() {
	if st.shared, _ = st.down.(codec.Shared); st.shared != nil {
		st.shared.OnGone(st.leave)
	}
}

// left is called when the client has gone, with locks of its connection held.
func (st *stream) left() {
	st.mu.Lock()
	defer st.mu.Unlock()
	if st.outlives {
		return
	}
	st.away.Store(true)
	if st.cancel != nil {
		st.cancel()
	}
	if st.up != nil {
		st.up.Interrupt()
	}
}

// await makes left wake whoever reads from up, until it is called with nil. It reports
// false if the client has gone already.
func (st *stream) await(up codec.ClientStream) bool {
	if st.shared == nil {
		return true
	}
	st.mu.Lock()
	defer st.mu.Unlock()
	st.up = up
	return up == nil || !st.away.Load()
}

// unfollow ends the watch, when the stream is over and its downstream side released.
func (st *stream) unfollow() {
	if st.shared == nil && st.cancel == nil {
		return
	}
	st.mu.Lock()
	defer st.mu.Unlock()
	if st.cancel != nil {
		st.cancel()
	}
	st.shared, st.up, st.ctx, st.cancel = nil, nil, nil, nil
	st.away.Store(false)
}

// Context implements filter.Engine.
func (st *stream) Context() context.Context {
	st.mu.Lock()
	defer st.mu.Unlock()
	if st.ctx == nil {
		st.ctx, st.cancel = context.WithCancel(st.conn.down.Engine.Context())
		if st.away.Load() {
			st.cancel()
		}
	}
	return st.ctx
}

// gone reports, without waiting, whether the client has gone.
func (st *stream) gone() bool {
	if st.outlives {
		return false
	}
	if st.shared != nil {
		return st.away.Load()
	}
	return st.conn.down.Engine.Socket().PeerClosed()
}

// absent is the end of a stream whose client has gone, which err, if there is one, was
// the sign of.
func (st *stream) absent(err error) error {
	if st.shared == nil {
		return errGone
	}
	if gone := st.shared.Gone(); gone != nil {
		err = gone
	}
	var bad *codec.ProtocolError
	switch {
	case errors.Is(err, codec.ErrRefused):
		return errRefused
	case errors.Is(err, codec.ErrReset):
		return errReset
	case errors.As(err, &bad):
		return &filter.Error{Source: filter.Downstream, Flag: meta.DownstreamProtocolError, Text: bad.Details}
	}
	return errGone
}

// unsent is the end of a stream whose client did not get what was written: it has gone,
// or has read nothing for as long as a stream may be idle.
func (st *stream) unsent(err error) error {
	if !netio.IsTimeout(err) {
		return st.absent(err)
	}
	if st.shared == nil && st.conn.down.Engine.Socket().Stuck() {
		return errStuck
	}
	st.m.counters.RqIdle.Inc()
	return &filter.Error{Source: filter.Internal, Flag: meta.StreamIdleTimeout, Text: replyIdleTimeout.Details, Err: err}
}
