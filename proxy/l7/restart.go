package l7

import (
	"time"

	"github.com/mecha-mesh/mecha/proxy/accesslog"
	"github.com/mecha-mesh/mecha/proxy/buffer"
	"github.com/mecha-mesh/mecha/proxy/codec"
	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/header"
	"github.com/mecha-mesh/mecha/proxy/meta"
)

// Restart implements filter.Engine.
func (st *stream) Restart(body *buffer.Buf) error {
	st.buffered.Release()
	if body != nil {
		st.buffered.MoveAll(body)
	}
	st.hasBuffer = st.buffered.Len() > 0
	st.seen, st.trailersSeen, st.trailersRead = 0, 0, false
	if st.RequestTrailers.Len() > 0 {
		st.next.set(codec.Trailers)
		st.trailersRead = true
	}
	return filter.ErrRestart
}

// again begins the stream anew with the request as it is now: what was so far is an
// exchange of its own for filters, counters and the access log.
func (st *stream) again() error {
	k := st.m.counters
	st.answering, st.direct, st.held.on, st.held.over = false, false, false, false
	st.held.body.Release()
	st.Meta.Code = st.Response.StatusCode()
	st.Meta.Details = "internal_redirect"
	st.Meta.End = st.Tick()
	k.RqTime.Record(uint64(st.Meta.End.Milliseconds()))
	for _, h := range st.chain.done {
		if st.off&(1<<h.index) == 0 {
			h.f.OnDone(&st.Stream)
		}
	}
	st.log(accesslog.DownstreamEnd)
	st.remember()
	st.Why.Reset()
	st.poll = 0
	st.endTrace()
	st.chain.reset()
	k.RqTotal.Inc()
	st.conn.version.requests().Inc()
	protocol := st.Meta.Protocol
	st.Meta = meta.Stream{Start: time.Now(), Protocol: protocol}
	st.logWhile()
	st.Response.Reset()
	st.ResponseTrailers.Reset()
	st.Meta.RequestEnd = st.Tick()
	st.head = st.Request.Value(header.Method) == "HEAD"
	if err := st.normalizePath(); err != nil {
		return err
	}
	st.RefreshRoute()
	return nil
}
