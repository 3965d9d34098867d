package router

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mecha-mesh/mecha/proxy/backoff"
	"github.com/mecha-mesh/mecha/proxy/cluster"
	"github.com/mecha-mesh/mecha/proxy/codec"
	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/header"
	"github.com/mecha-mesh/mecha/proxy/meta"
	"github.com/mecha-mesh/mecha/proxy/netio"
	"github.com/mecha-mesh/mecha/proxy/route"
	"github.com/mecha-mesh/mecha/proxy/transport"
)

// What follows plays attempts against hosts that are a script, on a clock that only moves
// when all wait: how long a back-off, a hedge or a timeout takes is exact.

// answer is what the host does with one attempt.
type answer struct {
	after  time.Duration // until the head of its response
	code   int           // 0: it closes the connection in place of an answer
	fields []string      // names and values
	full   bool          // its connection has no room after all
}

// scripted is the hosts of a cluster, and what has happened.
type scripted struct {
	begun time.Time

	mu      sync.Mutex
	answers []answer
	at      []time.Duration // of each attempt
	resets  int
}

type scriptedConn struct {
	codec.ClientConn
	h      *scripted
	opened int
}

func (c *scriptedConn) Alive() bool  { return true }
func (c *scriptedConn) Used() bool   { return c.opened > 1 }
func (c *scriptedConn) Close() error { return nil }

func (c *scriptedConn) Open(context.Context) (codec.ClientStream, error) {
	c.h.mu.Lock()
	defer c.h.mu.Unlock()
	a := c.h.answers[0]
	c.h.answers = c.h.answers[1:]
	if a.full {
		return nil, codec.ErrFull
	}
	c.opened++
	c.h.at = append(c.h.at, time.Since(c.h.begun))
	return &scriptedStream{h: c.h, a: a, ready: time.Now().Add(a.after), stop: make(chan struct{})}, nil
}

type scriptedStream struct {
	codec.ClientStream
	h     *scripted
	a     answer
	ready time.Time
	until time.Time
	stop  chan struct{}
	once  sync.Once
}

func (u *scriptedStream) WriteHeaders(*header.Map, bool) error  { return nil }
func (u *scriptedStream) Flush() error                          { return nil }
func (u *scriptedStream) Protocol() meta.Protocol               { return meta.HTTP11 }
func (u *scriptedStream) SetReadDeadline(t time.Time) error     { u.until = t; return nil }
func (u *scriptedStream) Interrupt()                            { u.once.Do(func() { close(u.stop) }) }
func (u *scriptedStream) StopWriting()                          {}
func (u *scriptedStream) Upgraded() bool                        { return false }
func (u *scriptedStream) WireBytes() (read, written codec.Wire) { return }
func (u *scriptedStream) Release() bool                         { return u.a.code != 0 }
func (u *scriptedStream) Reset(codec.Reset) {
	u.h.mu.Lock()
	defer u.h.mu.Unlock()
	u.h.resets++
}

func (u *scriptedStream) ReadHeaders(m *header.Map) (codec.Next, error) {
	limit, late := u.ready, false
	if !u.until.IsZero() && u.until.Before(limit) {
		limit, late = u.until, true
	}
	select {
	case <-time.After(time.Until(limit)):
	case <-u.stop:
		return 0, netio.ErrInterrupted
	}
	switch {
	case late:
		return 0, os.ErrDeadlineExceeded
	case u.a.code == 0:
		return 0, codec.ErrClosedBeforeResponse
	}
	m.SetInt(header.Status, int64(u.a.code))
	for i := 0; i+1 < len(u.a.fields); i += 2 {
		m.Add(u.a.fields[i], u.a.fields[i+1])
	}
	return codec.End, nil
}

// waiting is an engine without a client.
type waiting struct {
	filter.Engine
	s *filter.Stream
}

func (e *waiting) RefreshRoute()                                                 {}
func (e *waiting) RequestBody() codec.Next                                       { return codec.End }
func (e *waiting) Overdue(time.Time) error                                       { return nil }
func (e *waiting) LimitTryIdle(time.Duration)                                    {}
func (e *waiting) Started() bool                                                 { return false }
func (e *waiting) SendHeaders(bool) error                                        { return nil }
func (e *waiting) SendInformational(*header.Map) error                           { return nil }
func (e *waiting) Downstream() codec.ServerStream                                { return nil }
func (e *waiting) Sleep(d time.Duration) error                                   { <-time.After(d); return nil }
func (e *waiting) RelayResponse(codec.ClientStream, codec.Next, time.Time) error { return nil }
func (e *waiting) Await(up codec.ClientStream, m *header.Map, until time.Time) (codec.Next, error) {
	if err := up.SetReadDeadline(until); err != nil {
		return 0, err
	}
	next, err := up.ReadHeaders(m)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		err = &filter.Error{Source: filter.Upstream, Code: 504}
	}
	return next, err
}

// played is how a request went.
type played struct {
	took   time.Duration
	code   int
	flags  meta.Flag
	at     []time.Duration // when attempts began
	resets int
	stats  *cluster.Stats
}

// play sends a request over a route to hosts that answer so.
func play(t *testing.T, a *route.ForwardAction, answers ...answer) played {
	t.Helper()
	return playAfter(t, a, func(*cluster.Manager, *filter.Stream) {}, answers...)
}

// playAfter is play of a request to which something happens before the router has it.
func playAfter(t *testing.T, a *route.ForwardAction, before func(*cluster.Manager, *filter.Stream), answers ...answer) (p played) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		h := &scripted{begun: time.Now(), answers: answers}
		m := cluster.NewManager(cluster.Options{
			Log:  slog.New(slog.DiscardHandler),
			HTTP: func(*netio.Conn, *cluster.Spec, meta.Protocol) codec.ClientConn { return &scriptedConn{h: h} },
			Internal: func(context.Context, meta.Addr, meta.Passed) (*netio.Conn, error) {
				near, _ := net.Pipe()
				return netio.NewConn(near), nil
			},
		})
		defer m.Close()
		one := cluster.Thresholds{MaxConnections: 9, MaxPending: 9, MaxRequests: 9, MaxRetries: 9}
		if err := m.Set(&cluster.Spec{
			Name: "up", ConnectTimeout: time.Second, Socket: transport.Raw{}, Hash: 1, Breakers: [2]cluster.Thresholds{one, one},
			Assignment: &cluster.Assignment{Localities: []cluster.Locality{{Hosts: []cluster.HostSpec{{Addr: meta.InternalAddr("l", "1"), Weight: 1}}}}},
		}); err != nil {
			t.Fatal(err)
		}
		a.Cluster = "up"
		f := &Filter{sh: &shared{config: &Config{}, clusters: m, counters: &counters{}, bodyLimit: bodyLimit}}
		s := &filter.Stream{Conn: &meta.Conn{}, Route: &route.Route{Kind: route.Forward, Forward: a}}
		s.Engine, s.Meta.Start = &waiting{s: s}, time.Now()
		s.Request.AddID(header.Method, "GET")
		s.Request.AddID(header.Path, "/")
		up := m.Cluster("up")
		before(m, s)
		err := f.ServeStream(s)
		p = played{took: time.Since(h.begun), code: s.Response.StatusCode(), flags: s.Meta.Flags, at: h.at, stats: up.Stats()}
		var r *filter.Reply
		if errors.As(err, &r) {
			p.code, p.flags = r.Code, p.flags|r.Flags
		} else if err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		h.mu.Lock()
		p.resets = h.resets
		h.mu.Unlock()
		if n := p.stats.UpstreamRqActive.Value(); n != 0 {
			t.Errorf("%d attempts are under way when all is over", n)
		}
	})
	return p
}

// within reports whether d is in a range.
func within(d, from, to time.Duration) bool { return from <= d && d <= to }

// TestBackOff: each retry waits for a random time below a bound that doubles, up to the
// maximum, after the answer before it.
func TestBackOff(t *testing.T) {
	bounds := []time.Duration{100 * time.Millisecond, 200 * time.Millisecond, 300 * time.Millisecond, 300 * time.Millisecond}
	most := make([]time.Duration, len(bounds))
	for range 100 {
		p := play(t, &route.ForwardAction{Retry: &route.RetryPolicy{On: route.On5xx, Retries: 4, Backoff: backoff.Policy{Base: 100 * time.Millisecond, Max: 300 * time.Millisecond}}},
			answer{time.Second, 503, nil, false}, answer{time.Second, 503, nil, false}, answer{time.Second, 503, nil, false}, answer{time.Second, 503, nil, false}, answer{code: 200})
		if p.code != 200 || len(p.at) != 5 || p.stats.UpstreamRqRetryBackoffExponential.Value() != 4 {
			t.Fatalf("%+v", p)
		}
		for i, bound := range bounds {
			wait := p.at[i+1] - p.at[i] - time.Second
			if !within(wait, 0, bound) {
				t.Fatalf("retry %d waited %v, the bound is %v", i+1, wait, bound)
			}
			most[i] = max(most[i], wait)
		}
	}
	for i, bound := range bounds {
		if most[i] < bound*8/10 {
			t.Errorf("retry %d waited %v at most in 100 runs, the bound is %v", i+1, most[i], bound)
		}
	}
}

// TestRateLimitedBackOff: a host says when to come back, in seconds or as a time; half as
// much more is added at most. What it says too much of does not count.
func TestRateLimitedBackOff(t *testing.T) {
	policy := &route.RetryPolicy{
		On: route.On5xx, Retries: 3, Backoff: backoff.Policy{Base: time.Millisecond, Max: time.Millisecond}, ResetMax: time.Minute,
		Reset: []route.ResetHeader{{Name: "retry-after"}, {Name: "x-reset", Unix: true}},
	}
	at := time.Date(2000, 1, 1, 0, 0, 10, 0, time.UTC) // bubbles begin 10 s before
	p := play(t, &route.ForwardAction{Retry: policy},
		answer{code: 503, fields: []string{"retry-after", "4"}},
		answer{code: 503, fields: []string{"x-reset", "99999999999", "retry-after", "61"}},
		answer{code: 503, fields: []string{"x-reset", strconv.FormatInt(at.Unix(), 10)}}, answer{code: 200})
	if p.code != 200 || len(p.at) != 4 {
		t.Fatalf("%+v", p)
	}
	if !within(p.at[1], 4*time.Second, 6*time.Second) || !within(p.at[2]-p.at[1], 0, time.Millisecond) {
		t.Errorf("attempts at %v", p.at)
	}
	left := 10*time.Second - p.at[2].Truncate(time.Second)
	if !within(p.at[3]-p.at[2], left, left*3/2) {
		t.Errorf("attempts at %v, a host wanted %v", p.at, left)
	}
	if p.stats.UpstreamRqRetryBackoffRatelimited.Value() != 2 || p.stats.UpstreamRqRetryBackoffExponential.Value() != 1 {
		t.Errorf("%d by the host, %d by us", p.stats.UpstreamRqRetryBackoffRatelimited.Value(), p.stats.UpstreamRqRetryBackoffExponential.Value())
	}
}

// TestTimeoutDuringBackOff: the global timeout ends a wait, too.
func TestTimeoutDuringBackOff(t *testing.T) {
	p := play(t, &route.ForwardAction{Timeouts: route.Timeouts{Timeout: 3 * time.Second}, Retry: &route.RetryPolicy{
		On: route.On5xx, Retries: 3, ResetMax: time.Minute, Reset: []route.ResetHeader{{Name: "retry-after"}},
	}}, answer{code: 503, fields: []string{"retry-after", "30"}})
	if p.code != 504 || p.took != 3*time.Second || p.flags&meta.UpstreamRequestTimeout == 0 {
		t.Errorf("%+v", p)
	}
}

// TestPerTryTimeout: the next attempt begins at once where there is no back-off.
func TestPerTryTimeout(t *testing.T) {
	p := play(t, &route.ForwardAction{Retry: &route.RetryPolicy{On: route.On5xx, Retries: 1, PerTry: time.Second}},
		answer{after: time.Hour, code: 200}, answer{after: 500 * time.Millisecond, code: 200})
	if p.code != 200 || p.took != 1500*time.Millisecond || p.stats.UpstreamRqPerTryTimeout.Value() != 1 {
		t.Errorf("%+v", p)
	}
}

// TestHedging: another attempt begins, after its back-off, when one takes too long; the
// first good answer wins, and who is still under way is given up.
func TestHedging(t *testing.T) {
	hedged := func(retries uint32) *route.ForwardAction {
		return &route.ForwardAction{HedgeOnTimeout: true, Timeouts: route.Timeouts{Timeout: 20 * time.Second}, Retry: &route.RetryPolicy{
			On: route.On5xx, Retries: retries, PerTry: time.Second, Backoff: backoff.Policy{Base: 100 * time.Millisecond, Max: 100 * time.Millisecond},
		}}
	}
	const look = 2 * time.Millisecond // whoever waits looks now and then whether the client is still there
	for _, tc := range []struct {
		name     string
		retries  uint32
		answers  []answer
		code     int
		from, to time.Duration
		attempts int
	}{
		{"the second wins", 1, []answer{{after: 5 * time.Second, code: 200}, {after: time.Second, code: 201}}, 201, 2 * time.Second, 2100 * time.Millisecond, 2},
		{"the first wins", 1, []answer{{after: 1500 * time.Millisecond, code: 200}, {after: time.Second, code: 201}}, 200, 1500 * time.Millisecond, 1500 * time.Millisecond, 2},
		{"nobody is slow", 1, []answer{{after: 900 * time.Millisecond, code: 200}}, 200, 900 * time.Millisecond, 900 * time.Millisecond, 1},
		{"no retry is left", 1, []answer{{after: 5 * time.Second, code: 200}, {after: 5 * time.Second, code: 201}}, 200, 5 * time.Second, 5 * time.Second, 2},
		{"three overlap", 2, []answer{{after: 9 * time.Second, code: 200}, {after: 9 * time.Second, code: 201}, {after: time.Second, code: 202}}, 202, 3 * time.Second, 3200 * time.Millisecond, 3},
		{"a bad answer waits for the others", 1, []answer{{after: 3 * time.Second, code: 200}, {after: time.Second, code: 503}}, 200, 3 * time.Second, 3 * time.Second, 2},
		{"all are bad", 1, []answer{{after: 3 * time.Second, code: 500}, {after: time.Second, code: 503}}, 500, 3 * time.Second, 3 * time.Second, 2},
		{"the global timeout", 1, []answer{{after: time.Hour, code: 200}, {after: time.Hour, code: 200}}, 504, 20 * time.Second, 20 * time.Second, 2},
	} {
		p := play(t, hedged(tc.retries), tc.answers...)
		if p.code != tc.code || !within(p.took, tc.from, tc.to+look) || len(p.at) != tc.attempts {
			t.Errorf("%s: %d after %v, attempts at %v", tc.name, p.code, p.took, p.at)
		}
	}
}

// TestFullConnections: a connection that has no room after all is no attempt and no failure
// of the host; another one is asked for, up to a limit.
func TestFullConnections(t *testing.T) {
	full := answer{full: true}
	policy := func() *route.RetryPolicy {
		return &route.RetryPolicy{On: route.On5xx | route.OnReset | route.OnConnectFailure, Retries: 3}
	}
	for _, hedge := range []bool{false, true} {
		a := func() *route.ForwardAction {
			r := &route.ForwardAction{HedgeOnTimeout: hedge, Retry: policy()}
			if hedge {
				r.Retry.PerTry = time.Second
			}
			return r
		}
		p := play(t, a(), full, full, full, answer{code: 200})
		if p.code != 200 || len(p.at) != 1 || p.stats.UpstreamRqRetry.Value() != 0 {
			t.Errorf("hedged %t: room at last: %+v", hedge, p)
		}
		p = play(t, a(), full, full, full, full)
		if p.code != 503 || p.flags&meta.UpstreamOverflow == 0 || p.stats.UpstreamRqRetry.Value() != 0 {
			t.Errorf("hedged %t: no room at all: %+v", hedge, p)
		}
		p = play(t, a(), answer{code: 503}, full, answer{code: 200})
		if p.code != 200 || len(p.at) != 2 || p.stats.UpstreamRqRetry.Value() != 1 {
			t.Errorf("hedged %t: no room for a retry at first: %+v", hedge, p)
		}
	}
}

// TestClusterGivenBack: one that a filter has waited for is used although it is gone by now.
func TestClusterGivenBack(t *testing.T) {
	gone := func(m *cluster.Manager, s *filter.Stream) {
		s.Cluster = m.Cluster("up")
		m.Remove("up")
	}
	if p := playAfter(t, &route.ForwardAction{}, gone, answer{code: 200}); p.code != 200 {
		t.Errorf("%+v", p)
	}
	other := func(m *cluster.Manager, s *filter.Stream) {
		gone(m, s)
		s.Route.(*route.Route).Forward.Cluster = "other"
	}
	if p := playAfter(t, &route.ForwardAction{}, other); p.code != 503 || p.flags&meta.NoClusterFound == 0 {
		t.Errorf("another cluster: %+v", p)
	}
}
