package why

import (
	"time"

	"github.com/mecha-mesh/mecha/proxy/meta"
)

// Phase is a part of the time that a stream took.
type Phase struct {
	Name string
	Took time.Duration
	// Filter tells that it is the time of a filter, of that name.
	Filter bool
}

// The phases besides the filters.
const (
	PhaseRequest  = "request"  // reading the request head, and what of the body had to come first
	PhaseQueue    = "queue"    // waiting for a connection that somebody else had
	PhaseConnect  = "connect"  // making a connection
	PhaseTLS      = "tls"      // its handshake
	PhaseBackOff  = "back_off" // between attempts
	PhaseUpload   = "upload"   // sending the request
	PhaseWait     = "wait"     // for the first byte of the response
	PhaseResponse = "response" // passing the response on
	PhaseProxy    = "proxy"    // everything else: routing, and attempts that failed
)

// Names of the phases besides the filters, in the order of time.
func PhaseNames() []string {
	return []string{PhaseRequest, PhaseQueue, PhaseConnect, PhaseTLS, PhaseBackOff, PhaseUpload, PhaseWait, PhaseResponse, PhaseProxy}
}

// AppendPhases appends the parts of the time that a stream has taken, which add up to
// m.End. Parts that did not happen are left out.
func (r *Record) AppendPhases(dst []Phase, m *meta.Stream) []Phase {
	left := m.End
	add := func(name string, took time.Duration, filter bool) {
		if took = min(took, left); took > 0 {
			dst = append(dst, Phase{name, took, filter})
			left -= took
		}
	}
	add(PhaseRequest, r.Head, false)
	answered := time.Duration(0)
	for i, d := range r.Asked {
		add(r.Filters[i], d+r.Answered[i], true)
		answered += r.Answered[i]
	}
	add(PhaseQueue, r.Pool.Queue, false)
	add(PhaseConnect, r.Pool.Connect, false)
	add(PhaseTLS, r.Pool.TLS, false)
	add(PhaseBackOff, r.Pool.BackOff, false)
	begun := m.ResponseStart
	if begun == 0 {
		begun = m.DownstreamStart // a reply of the proxy's own
	} else if sent := m.UpstreamStart; sent > 0 {
		if m.UpstreamEnd > sent && m.UpstreamEnd < begun {
			add(PhaseUpload, m.UpstreamEnd-sent, false)
			sent = m.UpstreamEnd
		}
		add(PhaseWait, begun-sent, false)
	}
	if begun > 0 {
		add(PhaseResponse, m.End-begun-answered, false)
	}
	add(PhaseProxy, left, false)
	return dst
}
