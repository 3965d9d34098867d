package cluster

import (
	"time"

	"github.com/mecha-mesh/mecha/proxy/header"
	"github.com/mecha-mesh/mecha/proxy/meta"
	"github.com/mecha-mesh/mecha/proxy/transport"
)

// Attempt is what a pick depends on. The caller owns it, uses it again for a retry and
// clears it with the zero value. Everything in it is optional.
type Attempt struct {
	Conn     *meta.Conn     // downstream, for ORIGINAL_DST
	Stream   *meta.Stream   // what is known about the request so far
	Headers  *header.Map    // request
	Metadata *meta.Metadata // dynamic metadata of the request
	Shared   []meta.Object  // filter state that is shared with upstream, for internal listeners
	Priority Priority

	// Hash is what hash_policy made of the request, for ring hash and maglev: an XXH64
	// (match.Hash64 with seed 0), combined as Envoy combines those of several policies.
	// Without it they pick by chance.
	Hash    uint64
	HasHash bool

	// Match are the labels that a host's metadata must have, for subsets: the route's
	// metadata_match, merged with that of the weighted cluster and with the request's
	// dynamic metadata under envoy.lb.
	Match Labels

	// Override is the host that a stateful session wants.
	Override OverrideHost

	// Tried are the hosts of earlier attempts. AvoidTried, OmitCanaries and Omit are the
	// retry_host_predicates; a pick that they reject is thrown away up to HostTries times
	// (host_selection_retry_max_attempts), the last one stands.
	Tried        []*Host
	AvoidTried   bool   // previous_hosts
	OmitCanaries bool   // omit_canary_hosts
	Omit         Labels // omit_host_metadata: hosts with all of these labels
	HostTries    int

	// UpdateFrequency is that of previous_priorities: after so many attempts, and again
	// after as many more, the priorities of Tried get no load. 0 is no retry_priority.
	UpdateFrequency int

	// Fresh asks for a connection that was never used before: the router's, when it
	// repeats a request that a dead reused connection lost.
	Fresh bool

	// Now is what the caller knows of the time, so that Acquire need not look; zero is
	// nothing. Waited is Acquire's: it tells whether there was no connection at hand.
	Now    time.Time
	Waited bool

	// State is filter state, which may say where the attempt leads (ORIGINAL_DST, dynamic
	// forward proxy).
	State FilterState

	// Options are what filters ask of the connection; nil is nothing.
	Options *transport.Options

	named int // hosts named by the request that were tried (OverrideHostLB)
}

// FilterState gives objects by their keys; nil where there is none.
type FilterState interface{ FilterState(key string) any }

// OverrideHost names a host by its address ("1.2.3.4:80"). It is picked if it is a
// member whose health is in override_host_status. If it is not, and the wish is strict,
// nobody is picked.
type OverrideHost struct {
	Addr   string // "" is no wish
	Strict bool
}

// rejects reports whether a retry_host_predicate does not want a host.
func (a *Attempt) rejects(h *Host) bool {
	return a.AvoidTried && a.tried(h) || a.OmitCanaries && h.canary || a.Omit.omit(h)
}

func (a *Attempt) tried(h *Host) bool {
	for _, t := range a.Tried {
		if t.Same(h) {
			return true
		}
	}
	return false
}

func (a *Attempt) waits(yes bool) {
	if a != nil {
		a.Waited = yes
	}
}

// time is since when m runs.
func (a *Attempt) time(m *Manager) time.Duration {
	if a == nil || a.Now.IsZero() {
		return m.now()
	}
	return a.Now.Sub(m.start)
}
