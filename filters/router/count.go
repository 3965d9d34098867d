package router

import (
	"errors"
	"time"

	"github.com/mecha-mesh/mecha/proxy/cluster"
	"github.com/mecha-mesh/mecha/proxy/codec"
	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/header"
	"github.com/mecha-mesh/mecha/proxy/stats"
)

// countReply counts an answer that is given in the cluster's place.
// A response that another filter has refused was counted as what it was.
func (f *Filter) countReply(s *filter.Stream, err error) {
	if r, ok := err.(*filter.Reply); ok && !f.answered {
		f.countCode(s, r.Code, f.host, false)
	}
}

// countResponse counts a response that is passed on.
func (f *Filter) countResponse(s *filter.Stream, code int) {
	f.answered = true
	f.countCode(s, code, f.conn.Host, s.Response.Value(header.XEnvoyUpstreamCanary) == "true")
	if f.retries > 0 && code < 500 {
		f.cluster.Stats().UpstreamRqRetrySuccess.Inc()
		for _, p := range f.parts.All() {
			p.RetrySuccess.Inc()
		}
	}
}

// countCode counts a status code in all the places where people look for it. host is nil
// if there was none.
func (f *Filter) countCode(s *filter.Stream, code int, host *cluster.Host, canary bool) {
	if f.sh.config.NoDynamicStats {
		return
	}
	st := f.cluster.Stats()
	f.countIn(&st.UpstreamRq, code)
	if canary || host != nil && host.Canary() {
		f.canary = true
		f.countIn(&st.CanaryRq, code)
	}
	if s.Request.Value(header.XEnvoyInternal) == "true" {
		f.countIn(&st.InternalRq, code)
	} else {
		f.countIn(&st.ExternalRq, code)
	}
	if p := f.zone(host); p != nil {
		f.countIn(&p.Rq, code)
	}
	if f.alt != nil {
		f.countIn(&f.alt.Rq, code)
	}
	for _, p := range f.parts.All() {
		f.countIn(&p.Rq, code)
	}
}

// countIn counts a code; for gRPC that may be too much to ask
// (suppress_grpc_request_failure_code_stats).
func (f *Filter) countIn(c *stats.CodeCounters, code int) {
	if f.grpc && f.sh.config.NoGRPCFailureCodes {
		c.CountCompleted()
		return
	}
	c.Count(code)
}

// zone is the counters of requests from our zone to the host's, nil if one of them has
// no name.
func (f *Filter) zone(host *cluster.Host) *cluster.PartStats {
	if host == nil || host.Zone == "" || f.sh.zone == "" {
		return nil
	}
	return f.cluster.ZoneStats(f.sh.zone, host)
}

// countTime records how long upstream took, from the end of the request to the end
// of the response.
func (f *Filter) countTime(s *filter.Stream) {
	if f.sh.config.NoDynamicStats {
		return
	}
	took := uint64(max(s.Meta.ResponseEnd-s.Meta.UpstreamStart, 0) / time.Millisecond)
	st := f.cluster.Stats()
	st.UpstreamRqTime.Record(took)
	if s.Request.Value(header.XEnvoyInternal) == "true" {
		st.InternalRqTime.Record(took)
	} else {
		st.ExternalRqTime.Record(took)
	}
	if f.canary {
		st.CanaryRqTime.Record(took)
	}
	if p := f.zone(f.conn.Host); p != nil {
		p.Time.Record(took)
	}
	if f.alt != nil {
		f.alt.Time.Record(took)
	}
	for _, p := range f.parts.All() {
		p.Time.Record(took)
	}
}

// countFailure counts an attempt that ended without a response.
func (f *Filter) countFailure(err error) {
	st := f.cluster.Stats()
	var rr *retryResponse
	var ce *cluster.ConnectError
	var bad *codec.ProtocolError
	switch {
	case errors.As(err, &rr):
		return
	case errors.As(err, &ce):
		return // package cluster has counted it
	case errors.As(err, &bad):
		st.UpstreamCxProtocolError.Inc()
	}
}

// countBytes adds what the exchange moved on the wire, for the cluster that the host
// belongs to: it may be a member of the one that was asked.
func (f *Filter) countBytes(read, written codec.Wire) {
	f.conn.CountBytes(read.Header+read.Body, written.Header+written.Body)
}
