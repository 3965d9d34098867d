package router

import (
	"errors"
	"time"

	"github.com/mecha-mesh/mecha/proxy/cluster"
	"github.com/mecha-mesh/mecha/proxy/codec"
	"github.com/mecha-mesh/mecha/proxy/filter"
)

// countResponse counts a response head from a host.
func (f *Filter) countResponse(code int) {
	st, h := f.cluster.Stats(), f.conn.Host.Stats()
	st.UpstreamRq.Count(code)
	st.ExternalRq.Count(code)
	if code >= 500 {
		h.RqError.Inc()
	} else {
		h.RqSuccess.Inc()
	}
	if f.retries > 0 && code < 500 {
		st.UpstreamRqRetrySuccess.Inc()
	}
}

// countTime records how long upstream took, from the end of the request to the end
// of the response.
func (f *Filter) countTime(s *filter.Stream) {
	f.cluster.Stats().UpstreamRqTime.Record(uint64((s.Meta.ResponseEnd - s.Meta.UpstreamStart).Milliseconds()))
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
	st.UpstreamRqRxReset.Inc()
}

// countBytes adds what the exchange moved on the wire.
func (f *Filter) countBytes(read, written codec.Wire) {
	st := f.cluster.Stats()
	st.UpstreamCxRxBytesTotal.Add(uint64(read.Header + read.Body))
	st.UpstreamCxTxBytesTotal.Add(uint64(written.Header + written.Body))
}

// since is the time from t on in whole milliseconds.
func since(t time.Time) int64 { return time.Since(t).Milliseconds() }
