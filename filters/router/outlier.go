package router

import (
	"errors"

	"github.com/mecha-mesh/mecha/proxy/cluster"
	"github.com/mecha-mesh/mecha/proxy/cluster/outlier"
	"github.com/mecha-mesh/mecha/proxy/header"
)

// What became of an attempt is told to outlier detection as in Envoy: each attempt counts
// once for its host, whether it is retried or not. What did not come of the host, such as
// a limit that stood in the way or a client that has gone, is no failure of it.

// reportHead reports the head of a response. Of a gRPC call that is over with it, the
// status counts.
func reportHead(h *cluster.Host, m *header.Map, grpc bool) {
	if m.Has(header.XEnvoyImmediateHealthCheckFail) {
		h.SetUnhealthy()
	}
	o := h.Outlier()
	if o == nil {
		return
	}
	code := m.StatusCode()
	if status := m.Value(header.GrpcStatus); status != "" && grpc {
		if code = 200; hostFault(status) {
			code = codeOf(status)
		}
	}
	o.Code(code, m.Has(header.XEnvoyDegraded))
}

// codeOf is the HTTP code for a grpc-status for which the host is to blame.
func codeOf(status string) int {
	switch status {
	case "4":
		return 504
	case "12":
		return 501
	case "14":
		return 503
	}
	return 500
}

// reportConnected reports that there is a connection.
func reportConnected(h *cluster.Host) { h.Outlier().Put(outlier.Connected, 0) }

// reportUnconnected reports why there is none.
func reportUnconnected(h *cluster.Host, err error) {
	var ce *cluster.ConnectError
	if errors.As(err, &ce) {
		reportBroken(h)
	}
}

// reportBroken reports an exchange that the host has broken off.
func reportBroken(h *cluster.Host) { h.Outlier().Put(outlier.ConnectFailed, 0) }

// reportHedged reports an attempt, among others, that got no response head, unless it was
// given up.
func (t *try) reportHedged() {
	t.mu.Lock()
	cancelled := t.cancelled
	t.mu.Unlock()
	if !cancelled {
		reportBroken(t.host)
	}
}

// reportSlow reports attempts, among others, that have no answer after the time that they
// may take; each of them once.
func (rc *race) reportSlow(tries []*try) {
	for _, t := range tries {
		t.mu.Lock()
		host, delivered := t.host, t.delivered
		t.mu.Unlock()
		if host != nil && !delivered && !t.slow {
			t.slow = true
			rc.f.reportTimeout(host)
		}
	}
}

// reportTimeout reports an answer that did not come in time.
func (f *Filter) reportTimeout(h *cluster.Host) {
	code := 504
	if f.altTimeout {
		code = 204 // what the client is told counts
	}
	h.Outlier().Put(outlier.TimedOut, code)
}
