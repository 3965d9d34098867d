package router

import (
	"math/rand/v2"
	"time"

	"github.com/mecha-mesh/mecha/proxy/filter"
)

// backOff waits before a retry: what the host has asked for and up to half as much more,
// or a random time up to the base, twice the base for the second retry, and so on to the
// maximum. The safe retry of a dead reused connection does not wait. Whoever runs out of
// time meanwhile gets the reply for that.
func (f *Filter) backOff(s *filter.Stream) error {
	if f.retry == nil || f.at.Fresh && f.retries == 0 {
		return nil
	}
	defer s.Tick()
	wait := f.asked
	if f.asked = 0; wait > 0 {
		wait += time.Duration(rand.Int64N(int64(wait)/2 + 1))
	} else if wait = f.retry.Backoff.Pause(int(f.retries)); wait <= 0 {
		return nil
	}
	if !f.until.IsZero() {
		if left := time.Until(f.until); left < wait {
			if err := f.sleep(s, left); err != nil {
				return err
			}
			return f.timeoutReply(s, &replyTimeout)
		}
	}
	return f.sleep(s, wait)
}

// sleep waits before an attempt.
func (f *Filter) sleep(s *filter.Stream, d time.Duration) error {
	before := s.Tick()
	err := s.Engine.Sleep(d)
	s.Why.Pool.BackOff += s.Tick() - before
	return err
}

// countBackOff counts a retry by how it is going to wait; a response may say when to
// come back.
func (f *Filter) countBackOff(s *filter.Stream, response bool) {
	st := f.cluster.Stats()
	if response && len(f.retry.Reset) > 0 {
		if d, ok := f.retry.Wait(&s.Response, time.Now()); ok && d > time.Millisecond {
			f.asked = d
			st.UpstreamRqRetryBackoffRatelimited.Inc()
			return
		}
	}
	st.UpstreamRqRetryBackoffExponential.Inc()
}
