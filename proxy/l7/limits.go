package l7

import (
	"time"

	"github.com/mecha-mesh/mecha/proxy/codec"
	"github.com/mecha-mesh/mecha/proxy/filter"
)

// limited is a route with times of its own.
type limited interface {
	// StreamIdle is how long nothing may move (idle_timeout); 0 is for ever.
	StreamIdle() (d time.Duration, set bool)
	// StreamFlush is how long the client may keep the response waiting (flush_timeout).
	StreamFlush() (d time.Duration, set bool)
	// StreamDuration is how long a stream may take (max_stream_duration); 0 is for ever.
	// otherwise is what the connection manager says.
	StreamDuration(s *filter.Stream, otherwise time.Duration) (d time.Duration, set bool)
}

// setLimits takes the times of the stream from its route or the connection manager.
func (st *stream) setLimits() {
	if st.hypothetical {
		return
	}
	spec := st.m.spec
	idle, duration := spec.StreamIdleTimeout, spec.MaxStreamDuration
	flush, flushes := spec.StreamFlushTimeout, spec.StreamFlushSet
	if r, ok := st.Route.(limited); ok {
		if d, set := r.StreamIdle(); set {
			idle = d
		}
		if d, set := r.StreamFlush(); set {
			flush, flushes = d, true
		}
		if d, set := r.StreamDuration(&st.Stream, duration); set {
			duration = d
		}
	}
	st.idle, st.end = idle, time.Time{}
	if !flushes {
		flush = idle
	}
	if st.shared != nil {
		st.shared.LimitStall(flush)
	} else {
		st.conn.down.Engine.Socket().LimitStall(idle)
	}
	if duration > 0 {
		st.end = st.Meta.Start.Add(duration)
	}
}

// soonest is the earliest of the times at which a wait that begins now has to end; the
// zero time is never.
func (st *stream) soonest(until time.Time) time.Time {
	st.logInTime()
	if !st.end.IsZero() && (until.IsZero() || st.end.Before(until)) {
		until = st.end
	}
	idle := st.idle
	if st.tryIdle > 0 && (idle == 0 || st.tryIdle < idle) && st.next.get() == codec.End {
		idle = st.tryIdle
	}
	if idle > 0 {
		if t := st.Now().Add(idle); until.IsZero() || t.Before(until) {
			until = t
		}
	}
	return until
}

// expired says which limit a wait has run into; nil is none, since the other direction
// was not idle meanwhile.
func (st *stream) expired(until time.Time) error {
	now := time.Now()
	complete := st.next.get() == codec.End
	switch {
	case !until.IsZero() && !now.Before(until):
		return errUpstreamTimeout
	case !st.end.IsZero() && !now.Before(st.end):
		st.m.counters.RqMaxDuration.Inc()
		return incompleteOr(complete, &replyDurationIncomplete, &replyDuration)
	case complete && st.tryIdle > 0 && (st.idle == 0 || st.tryIdle < st.idle):
		return filter.ErrTryIdle
	case now.Sub(time.Unix(0, st.moved.Load())) < st.idle:
		return nil
	}
	st.m.counters.RqIdle.Inc()
	return incompleteOr(complete, &replyIdleTimeout, &replyIdleUpstream)
}

// Overdue implements filter.Engine.
func (st *stream) Overdue(since time.Time) error {
	now := time.Now()
	late := !st.end.IsZero() && !now.Before(st.end)
	if moved := time.Unix(0, st.moved.Load()); moved.After(since) {
		since = moved
	}
	if !late && (st.idle <= 0 || now.Sub(since) < st.idle) {
		return nil
	}
	complete := st.next.get() == codec.End
	if late {
		st.m.counters.RqMaxDuration.Inc()
		return incompleteOr(complete, &replyDurationIncomplete, &replyDuration)
	}
	st.m.counters.RqIdle.Inc()
	return incompleteOr(complete, &replyIdleTimeout, &replyIdleUpstream)
}

func incompleteOr(complete bool, a, b *filter.Reply) error {
	if complete {
		return b
	}
	return a
}

// noteMoved records that something has moved, for a wait of the other direction. It is
// not worth a look at the clock where nobody waits there.
func (st *stream) noteMoved() {
	if st.next.get() != codec.End {
		st.moved.Store(time.Now().UnixNano())
	}
}

// LimitTryIdle implements filter.Engine.
func (st *stream) LimitTryIdle(d time.Duration) { st.tryIdle = d }
