package router

import (
	"errors"
	"time"

	"github.com/mecha-mesh/mecha/proxy/codec"
	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/header"
	"github.com/mecha-mesh/mecha/proxy/meta"
	"github.com/mecha-mesh/mecha/proxy/netio"
	"github.com/mecha-mesh/mecha/proxy/route"
)

// respond passes the response on.
func (f *Filter) respond(s *filter.Stream, r *route.Route, next codec.Next) error {
	if !f.sh.config.SuppressEnvoyHeaders && f.requestSent(s) {
		s.Response.SetInt(header.XEnvoyUpstreamServiceTime, (s.Elapsed() - f.begun(s)).Milliseconds())
	}
	if f.action.AttemptCountBack {
		s.Response.SetInt(header.XEnvoyAttemptCount, int64(s.Meta.Attempts))
	}
	for _, c := range f.cookies {
		s.Response.AddID(header.SetCookie, c)
	}
	s.Meta.Details = "via_upstream"
	if err := r.FinalizeResponse(s); err != nil {
		return err
	}
	st := f.cluster.Stats()
	defer countStalls(s, netio.Stalls{})
	countStalls(s, netio.Stalls{Begun: &st.UpstreamFlowControlPausedReadingTotal, Over: &st.UpstreamFlowControlResumedReadingTotal})
	if err := s.Engine.SendHeaders(next == codec.End); err != nil {
		if err == filter.ErrRestart {
			f.drop(next)
		}
		return err
	}
	if f.up.Upgraded() {
		if err := f.tunnel(s); err != nil {
			return err
		}
		if f.up.Protocol() == meta.HTTP2 { // the stream has an end of its own
			return nil
		}
		// Envoy's words for an upgraded connection that upstream has ended.
		s.Meta.Flags |= meta.UpstreamConnectionTermination
		s.Meta.Details = "upstream_reset_after_response_started{connection_termination}"
		return nil
	}
	if err := s.Engine.RelayResponse(f.up, next, earlier(f.until, f.tryEnd)); err != nil {
		err = f.relayFailed(s, err)
		f.countEnd(s, err)
		return err
	}
	f.countEnd(s, nil)
	s.Meta.ResponseEnd = s.Elapsed()
	if f.cluster.Reports() { // a load report may come in a trailer, too
		f.cluster.Report(f.conn.Host, 0, &s.ResponseTrailers)
	}
	f.countTime(s)
	f.trackRequest(s)
	return nil
}

// countStalls counts how often the client takes no more for a while. On a connection with
// other streams nobody knows for whom it waits.
func countStalls(s *filter.Stream, c netio.Stalls) {
	if s.Session != nil && s.Meta.Protocol != meta.HTTP2 {
		s.Session.Engine.Socket().CountStalls(c)
	}
}

// begun is when the time of a request began: when it was complete, or what there was of it
// was asked for upstream. The pump notes the one, and may be about to.
func (f *Filter) begun(s *filter.Stream) time.Duration {
	begun := f.start.Sub(s.Meta.Start)
	if s.Engine.RequestBody() == codec.End || !f.pump.running {
		begun = max(begun, s.Meta.RequestEnd)
	}
	return begun
}

// requestSent reports whether the whole request has gone up. One that asks for an
// upgrade never has.
func (f *Filter) requestSent(s *filter.Stream) bool {
	return s.Engine.RequestBody() == codec.End && !opens(s)
}

// relayFailed finds the cause of a response that broke off: where the pump has ended
// the wait for it, that is the pump's error.
func (f *Filter) relayFailed(s *filter.Stream, err error) error {
	if f.pump.running && errors.Is(err, netio.ErrInterrupted) {
		f.pump.stop(s)
		if f.pump.err != nil {
			return f.pump.err
		}
	}
	if !isTimeout(err) {
		if upstreamFault(err) {
			reportBroken(f.conn.Host)
		}
		return err
	}
	slow := f.timedOut(s, err)
	r, ok := slow.(*filter.Reply)
	if t, is := slow.(*tryTimeout); is {
		r, ok = t.reply, true
	}
	if !ok {
		return err
	}
	return &filter.Error{Source: filter.Upstream, Flag: r.Flags, Code: r.Code, Body: r.Body, Text: r.Details, Err: err}
}

// tunnel moves raw bytes both ways after an upgrade, until one side ends.
func (f *Filter) tunnel(s *filter.Stream) error {
	f.keep = false
	f.pump.start(f, s)
	if err := s.Engine.RelayResponse(f.up, codec.Data, time.Time{}); err != nil {
		return f.relayFailed(s, err)
	}
	return nil
}
