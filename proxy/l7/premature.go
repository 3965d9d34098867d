package l7

import (
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mecha-mesh/mecha/proxy/runtime"
)

// prematureResets finds the clients that begin streams only to give them up: more than
// half of them, once there were enough (Envoy's premature reset protection).
type prematureResets struct {
	of   *Manager
	over atomic.Bool // the connection is to end

	mu         sync.Mutex
	total, bad uint64
}

var errPremature = errors.New("too many premature resets")

// resetLimits are the keys of the runtime that say what is too much.
type resetLimits struct {
	streams  runtime.UintValue // how many streams it takes to tell
	lifetime runtime.UintValue // in seconds; a stream that has lived longer is no bad one
}

func newResetLimits(r *runtime.Runtime) resetLimits {
	return resetLimits{
		streams:  runtime.UintSetting{Key: "overload.premature_reset_total_stream_count", Default: 500}.On(r),
		lifetime: runtime.UintSetting{Key: "overload.premature_reset_min_stream_lifetime_seconds", Default: 1}.On(r),
	}
}

// reset takes in that the client has given up a stream before there was a response.
func (p *prematureResets) reset(lifetime time.Duration) {
	if uint64(lifetime/time.Second) > p.of.resetLimits.lifetime.Get() {
		return
	}
	p.mu.Lock()
	p.bad++
	p.mu.Unlock()
}

// ended takes in that a stream is over, and reports, once, that the connection has to
// end.
func (p *prematureResets) ended() (tooMany bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.total++
	// Below the limit: would the client be too bad even if all streams up to it were good?
	if p.bad == 0 || p.over.Load() || 2*p.bad < max(p.total, p.of.resetLimits.streams.Get()) {
		return false
	}
	p.over.Store(true)
	p.of.counters.RqPremature.Inc()
	return true
}
