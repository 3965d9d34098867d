package router

import (
	"errors"

	"github.com/mecha-mesh/mecha/proxy/cluster"
	"github.com/mecha-mesh/mecha/proxy/codec"
	"github.com/mecha-mesh/mecha/proxy/filter"
)

// countHost counts a response head for the host that it is from.
func (f *Filter) countHost(code int) {
	h := f.conn.Host.Stats()
	if code >= 500 {
		h.RqError.Inc()
	} else {
		h.RqSuccess.Inc()
	}
}

// countReply counts an answer that is given in the cluster's place.
func (f *Filter) countReply(err error) {
	if r, ok := err.(*filter.Reply); ok {
		f.cluster.Stats().UpstreamRq.Count(r.Code)
		f.cluster.Stats().ExternalRq.Count(r.Code)
	}
}

// countResponse counts a response that is passed on.
func (f *Filter) countResponse(code int) {
	st := f.cluster.Stats()
	st.UpstreamRq.Count(code)
	st.ExternalRq.Count(code)
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
}

// countBytes adds what the exchange moved on the wire.
func (f *Filter) countBytes(read, written codec.Wire) {
	st := f.cluster.Stats()
	st.UpstreamCxRxBytesTotal.Add(uint64(read.Header + read.Body))
	st.UpstreamCxTxBytesTotal.Add(uint64(written.Header + written.Body))
}
