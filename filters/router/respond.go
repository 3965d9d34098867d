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
		s.Response.SetInt(header.XEnvoyUpstreamServiceTime, (s.Elapsed() - max(s.Meta.RequestEnd, f.start.Sub(s.Meta.Start))).Milliseconds())
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
	if err := s.Engine.SendHeaders(next == codec.End); err != nil {
		return err
	}
	if f.up.Upgraded() {
		if err := f.tunnel(s); err != nil {
			return err
		}
		// Envoy's words for an upgraded connection that upstream has ended.
		s.Meta.Flags |= meta.UpstreamConnectionTermination
		s.Meta.Details = "upstream_reset_after_response_started{connection_termination}"
		return nil
	}
	if err := s.Engine.RelayResponse(f.up, next, earlier(f.until, f.tryEnd)); err != nil {
		return f.relayFailed(s, err)
	}
	s.Meta.ResponseEnd = s.Elapsed()
	if f.cluster.Reports() { // a load report may come in a trailer, too
		f.cluster.Report(f.conn.Host, 0, &s.ResponseTrailers)
	}
	f.countTime(s)
	return nil
}

// requestSent reports whether the whole request has gone up. One that asks for an
// upgrade never has.
func (f *Filter) requestSent(s *filter.Stream) bool {
	return s.Engine.RequestBody() == codec.End && !s.Request.Has(header.Upgrade) && s.Request.Value(header.Method) != "CONNECT"
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
		return err
	}
	slow := f.timedOut(err)
	r, ok := slow.(*filter.Reply)
	if t, is := slow.(*tryTimeout); is {
		r, ok = t.reply, true
	}
	if !ok {
		return err
	}
	return &filter.Error{Source: filter.Upstream, Flag: r.Flags, Text: r.Details, Err: err}
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
