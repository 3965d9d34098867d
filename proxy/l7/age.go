package l7

import (
	"errors"
	"math/rand/v2"
	"time"
)

// age is how old a connection may become. The zero times are never.
type age struct {
	old     time.Time // its next response is the last one
	closed  time.Time // without a request under way it is closed
	counted bool
}

// ageOf draws the ages of a connection that began at start.
func (m *Manager) ageOf(start time.Time) (a age) {
	spec := m.spec
	if spec.MaxConnDuration <= 0 {
		return a
	}
	a.old = start.Add(jittered(spec.MaxConnDuration, spec.MaxConnJitter))
	if !spec.SafeConnDuration {
		a.closed = a.old.Add(jittered(spec.DrainTimeout, spec.DrainJitter))
	}
	return a
}

// jittered adds up to that share of d, by chance.
func jittered(d time.Duration, share float64) time.Duration {
	if share <= 0 {
		return d
	}
	return d + time.Duration(rand.Float64()*share*float64(d))
}

// ends is when the connection ends if nothing comes from the client, and why.
func (c *conn) ends() (at time.Time, why error) {
	why = errIdle
	if idle := c.m.spec.IdleTimeout; idle > 0 {
		at = c.idleSince.Add(idle)
	}
	old := c.age.closed
	if c.served.Load() == 0 {
		old = c.age.old // nobody has asked for anything: there is nothing to lose
	}
	if !old.IsZero() && (at.IsZero() || old.Before(at)) {
		return old, errOld
	}
	return at, why
}

var errOld = errors.New("max connection duration")

// tooOld counts that the connection has become too old, once.
func (c *conn) tooOld() {
	if !c.age.counted {
		c.age.counted = true
		c.m.counters.CxMaxDuration.Inc()
	}
}
