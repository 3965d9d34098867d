package router

import (
	"strconv"
	"time"

	"github.com/mecha-mesh/mecha/proxy/codec"
	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/header"
	"github.com/mecha-mesh/mecha/proxy/route"
)

// timing is the time limits of one exchange; 0 is none.
type timing struct {
	global, perTry, perTryIdle time.Duration
	duration                   time.Duration // of one attempt (x-envoy-upstream-stream-duration-ms)
}

// timingOf takes the limits from the route, and from the request headers that
// override them, which it takes out of the request.
func (f *Filter) timingOf(s *filter.Stream) timing {
	m, a := &s.Request, f.action
	t := timing{global: a.Global(m, f.grpc)}
	if a.Retry != nil {
		t.perTry, t.perTryIdle = a.Retry.PerTry, a.Retry.PerTryIdle
	}
	if f.sh.config.RespectExpected && m.Has(header.XEnvoyExpectedRqTimeoutMs) {
		if d, ok := millis(m, header.XEnvoyExpectedRqTimeoutMs); ok {
			t.global = d
		}
	} else if d, ok := takeMillis(m, header.XEnvoyUpstreamRqTimeoutMs); ok {
		t.global = d
	}
	if d, ok := takeMillis(m, header.XEnvoyUpstreamRqPerTryTimeoutMs); ok {
		t.perTry = d
	}
	if t.global > 0 && t.perTry >= t.global {
		t.perTry = 0
	}
	t.duration = f.cluster.Spec().HTTP.MaxStreamDuration
	if d, ok := takeMillis(m, header.XEnvoyUpstreamStreamDurationMs); ok {
		t.duration = d
	}
	return t
}

func millis(m *header.Map, id header.ID) (time.Duration, bool) {
	if !m.Has(id) {
		return 0, false
	}
	n, err := strconv.ParseUint(m.Value(id), 10, 32)
	return time.Duration(n) * time.Millisecond, err == nil
}

// takeMillis is millis that removes the field.
func takeMillis(m *header.Map, id header.ID) (time.Duration, bool) {
	if !m.Has(id) {
		return 0, false
	}
	d, ok := millis(m, id)
	m.DelID(id)
	return d, ok
}

// tellTimeout tells upstream how much time there is (x-envoy-expected-rq-timeout-ms, and
// grpc-timeout where max_grpc_timeout is in force). used is what earlier attempts took.
func (f *Filter) tellTimeout(s *filter.Stream, used time.Duration) {
	t := &f.timing
	expected := t.perTry
	if expected == 0 || f.hedge.onTimeout {
		expected = t.global
	}
	if expected <= 0 {
		return
	}
	if t.global > 0 {
		expected = max(min(expected, t.global-used), time.Millisecond)
	}
	if !f.sh.config.SuppressEnvoyHeaders {
		s.Request.SetInt(header.XEnvoyExpectedRqTimeoutMs, expected.Milliseconds())
	}
	if f.grpc && f.action.GRPC {
		route.SetGRPCTimeout(&s.Request, expected)
	}
}

// lookAgain is how often a response that is waited for without a limit, since the
// request is still on its way, is looked at: the time limits begin when it is complete.
const lookAgain = 100 * time.Millisecond

// await waits for a response head.
func (f *Filter) await(s *filter.Stream) (codec.Next, error) {
	begun := s.Now() // of this attempt
	f.tryEnd = time.Time{}
	if f.timing.duration > 0 {
		f.tryEnd = begun.Add(f.timing.duration)
	}
	for {
		until, pending := f.deadline(&begun)
		if pending {
			until = time.Now().Add(lookAgain)
		}
		next, err := s.Engine.Await(f.up, &s.Response, earlier(until, f.tryEnd))
		if !pending || !isTimeout(err) || past(f.tryEnd) {
			return next, err
		}
	}
}

// earlier is the first of two times, of which the zero time is never.
func earlier(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

// past reports whether a time has come; the zero time never does.
func past(t time.Time) bool { return !t.IsZero() && !time.Now().Before(t) }

// deadline is when the wait for a response head ends. It is pending while the request
// is incomplete; begun is moved to its end.
func (f *Filter) deadline(begun *time.Time) (until time.Time, pending bool) {
	t := f.timing
	if t.global <= 0 && t.perTry <= 0 {
		return time.Time{}, false
	}
	if f.pump.running {
		done := f.pump.done.Load()
		if done == 0 {
			return time.Time{}, true
		}
		if end := time.Unix(0, done); end.After(*begun) {
			*begun = end
		}
	}
	if f.until.IsZero() && t.global > 0 {
		f.until = begun.Add(t.global)
	}
	until = f.until
	if t.perTry > 0 {
		until = earlier(until, begun.Add(t.perTry))
	}
	return until, false
}

func (f *Filter) expired() bool { return past(f.until) }
