package router

import (
	"github.com/mecha-mesh/mecha/proxy/cluster"
	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/header"
)

// countHost counts a response head for the host that it is from. Of a gRPC call that is
// not over, the status decides, which is still to come.
func (f *Filter) countHost(m *header.Map, end bool) {
	switch {
	case m.StatusCode() >= 500:
		f.conn.Host.Stats().RqError.Inc()
	case !f.grpc:
		f.conn.Host.Stats().RqSuccess.Inc()
	case end:
		countStatus(f.conn.Host, m)
	default:
		f.undecided = true
	}
}

// countEnd counts a gRPC call that is over for its host; err is nil if it was not broken
// off.
func (f *Filter) countEnd(s *filter.Stream, err error) {
	if !f.undecided {
		return
	}
	f.undecided = false
	if err == nil {
		countStatus(f.conn.Host, &s.ResponseTrailers)
	} else if upstreamFault(err) {
		f.conn.Host.Stats().RqError.Inc()
		f.sh.counters.ResetAfter.Inc()
	}
}

// countStatus counts a gRPC call by its status, where m has it. No status is an error.
func countStatus(h *cluster.Host, m *header.Map) {
	if hostFault(m.Value(header.GrpcStatus)) {
		h.Stats().RqError.Inc()
	} else {
		h.Stats().RqSuccess.Inc()
	}
}

// hostFault reports whether a grpc-status is one that goes with an HTTP code from 500 on
// (google/rpc/code.proto says which).
func hostFault(status string) bool {
	switch status {
	case "0", "1", "3", "5", "6", "7", "8", "9", "10", "11", "16":
		return false
	}
	return true // unknown, deadline exceeded, unimplemented, internal, unavailable, data loss
}
