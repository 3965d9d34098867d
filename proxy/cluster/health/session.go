package health

import (
	"context"
	"sync"
	"time"

	"github.com/mecha-mesh/mecha/proxy/meta"
	"github.com/mecha-mesh/mecha/proxy/netio"
	"github.com/mecha-mesh/mecha/proxy/runtime"
)

// Flags are what a session says of its host.
type Flags uint8

// The flags.
const (
	Failed   Flags = 1 << iota // too many checks have failed, or there was none yet
	Degraded                   // it passes, and says to be degraded
	Pending                    // there was no check yet, and it is not to count until then
	Excluded                   // it has asked to be left out (x-envoy-immediate-health-check-fail)
	TimedOut                   // it did not answer in time
)

// Env is what a checker works with.
type Env struct {
	Stats   *Stats
	Runtime *runtime.Runtime // nil: nothing is overridden
	Rand    func() uint64
	// Traffic reports whether the cluster was ever connected to by somebody else.
	Traffic func() bool
	// Begin asks whether a check may begin, End tells that it is over; between the two the
	// process does not end.
	Begin func() bool
	End   func()
	// Log is told what happens to hosts; nil: nobody wants to know.
	Log func(*Event)
}

// Host is what a session checks.
type Host struct {
	Addr  meta.Addr
	Place [3]string // region, zone and sub-zone
	Name  string    // what it is called in requests that have no other name: the cluster's
	// Hostname is what it is called in all requests (endpoint.health_check_config.hostname);
	// "" leaves that to the configuration.
	Hostname string
	// Dial makes a connection with all that the transport socket does.
	Dial func(ctx context.Context) (*netio.Conn, error)
	// Set takes flags that have come and gone.
	Set func(set, clear Flags)
	// Checked is called after each check, with whether it was passed.
	Checked func(passed bool)
}

// Checker checks the hosts of a cluster.
type Checker struct {
	config   *Config
	env      Env
	min, max runtime.UintValue // milliseconds between checks
	verify   runtime.FractionValue
}

// NewChecker returns a checker without hosts.
func NewChecker(c *Config, env Env) *Checker {
	ms := func(key string, def uint64) runtime.UintValue {
		return runtime.UintSetting{Key: "health_check." + key, Default: def}.On(env.Runtime)
	}
	return &Checker{
		config: c, env: env, min: ms("min_interval", 0), max: ms("max_interval", uint64(longest/time.Millisecond)),
		verify: runtime.FractionSetting{Key: "health_check.verify_cluster", Default: runtime.Fraction{Denominator: 100}}.On(env.Runtime),
	}
}

// longest bounds what is between two checks.
const longest = 365 * 24 * time.Hour

// Session checks one host, one check at a time, until Stop.
type Session struct {
	c      *Checker
	host   Host
	ctx    context.Context
	cancel context.CancelFunc
	link   link // of the check under way, and kept for the next one

	mu      sync.Mutex
	timer   *time.Timer
	flags   Flags
	unseen  bool // there was no check yet
	stopped bool
	good    uint32 // checks passed, or failed, in a row
	bad     uint32
}

// Start begins to check a host that has those flags.
func (c *Checker) Start(h Host, flags Flags) *Session {
	s := &Session{c: c, host: h, flags: flags, unseen: true}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	s.link.dial = h.Dial
	s.mu.Lock()
	defer s.mu.Unlock()
	if flags&Failed == 0 {
		c.env.Stats.Healthy.Inc()
	}
	wait := time.Duration(0)
	if j := c.config.InitialJitter; j >= time.Millisecond {
		wait = time.Duration(c.env.Rand()%uint64(j/time.Millisecond)) * time.Millisecond
	}
	s.timer = time.AfterFunc(wait, s.run)
	return s
}

// Stop ends the checks; one under way is given up.
func (s *Session) Stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopped {
		return
	}
	s.stopped = true
	s.cancel()
	if s.timer.Stop() { // no check is under way, which would close its connection itself
		s.link.close()
	}
	if s.flags&Failed == 0 {
		s.c.env.Stats.Healthy.Dec()
	}
	if s.flags&Degraded != 0 {
		s.c.env.Stats.Degraded.Dec()
	}
}

// run makes a check. It is called by the timer, on a goroutine of its own.
func (s *Session) run() {
	if !s.c.env.Begin() {
		return
	}
	defer s.c.env.End()
	ctx, cancel := context.WithTimeout(s.ctx, s.c.config.Timeout)
	defer cancel()
	if s.ctx.Err() == nil {
		s.c.env.Stats.Attempt.Inc()
	}
	r := s.c.check(ctx, s)
	s.mu.Lock()
	if s.stopped {
		s.mu.Unlock()
		s.link.close()
		return
	}
	changing := s.apply(r)
	if s.c.config.NoReuse || r.outcome == lost || r.outcome == late {
		s.link.close()
	}
	s.timer.Reset(s.c.pause(r.outcome == passed, changing))
	s.mu.Unlock()
	s.host.Checked(r.outcome == passed)
}

// outcome is how a check ended.
type outcome uint8

const (
	passed   outcome = iota
	failed           // the answer was not the one that was wanted
	lost             // there was no answer
	late             // there was none in time
	reported         // an answer to a request said that the host is not well
)

// result is what a check has found.
type result struct {
	outcome   outcome
	degraded  bool
	immediate bool // x-envoy-immediate-health-check-fail
	code      int  // of an answer over HTTP that was not the one that was wanted
	retriable bool // the threshold counts, as for answers that did not come
}

// apply takes a result over and reports whether the host's health is changing, but has not
// changed yet. The lock is held.
func (s *Session) apply(r result) (changing bool) {
	if r.outcome == passed {
		changing = s.pass(r)
	} else {
		changing = s.fail(r)
	}
	s.unseen = false
	return changing
}

func (s *Session) pass(r result) (changing bool) {
	st := s.c.env.Stats
	s.bad = 0
	var set, clear Flags
	if s.flags&Failed != 0 {
		if s.good++; s.unseen || s.good >= s.c.config.Healthy {
			clear |= Failed | TimedOut | Excluded
			st.Healthy.Inc()
			s.log(&Event{What: AddHealthy, First: s.unseen})
		} else {
			changing = true
		}
	}
	clear |= Pending
	if was := s.flags&Degraded != 0; was != r.degraded {
		if r.degraded {
			set |= Degraded
			st.Degraded.Inc()
			s.log(&Event{What: NowDegraded})
		} else {
			clear |= Degraded
			st.Degraded.Dec()
			s.log(&Event{What: NoLongerDegraded})
		}
	}
	st.Success.Inc()
	if s.c.config.LogSuccess {
		s.log(&Event{What: Succeeded})
	}
	s.put(set, clear)
	return changing
}

func (s *Session) fail(r result) (changing bool) {
	st := s.c.env.Stats
	s.good = 0
	set, clear := Flags(0), Pending
	if s.flags&Failed == 0 {
		patient := r.retriable || r.outcome == lost || r.outcome == late
		if s.bad++; !patient || s.bad >= s.c.config.Unhealthy {
			set |= Failed
			st.Healthy.Dec()
			s.log(&Event{What: Eject, Failure: r.outcome, Code: r.code})
		} else {
			changing = true
		}
	}
	if r.outcome == late {
		set |= TimedOut
	} else {
		clear |= TimedOut
	}
	if r.immediate {
		set |= Excluded
	}
	if s.c.config.LogFailures || s.unseen {
		s.log(&Event{What: Failure, Failure: r.outcome, First: s.unseen, Code: r.code})
	}
	st.Failure.Inc()
	switch r.outcome {
	case lost, late:
		st.NetworkFailure.Inc()
	case reported:
		st.PassiveFailure.Inc()
	}
	s.put(set, clear)
	return changing
}

// put changes flags. The lock is held.
func (s *Session) put(set, clear Flags) {
	set, clear = set&^s.flags, clear&s.flags
	if set|clear != 0 {
		s.flags = s.flags&^clear | set
		s.host.Set(set, clear)
	}
}

// Of reports whether the session is one of c's.
func (s *Session) Of(c *Checker) bool { return s != nil && s.c == c }

// Report says that an answer of the host to a request wants it out of service at once
// (x-envoy-immediate-health-check-fail).
func (s *Session) Report() {
	if s == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.stopped {
		s.fail(result{outcome: reported, immediate: true})
	}
}

func (s *Session) log(e *Event) {
	if s.c.env.Log == nil {
		return
	}
	e.Place = s.host.Place
	e.Kind, e.Addr, e.Time = s.c.config.kind(), s.host.Addr, time.Now()
	s.c.env.Log(e)
}

// pause is how long it takes to the next check.
func (c *Checker) pause(well, changing bool) time.Duration {
	f, d := c.config, time.Duration(0)
	switch {
	case !c.env.Traffic() && well:
		d = f.NoTrafficHealthy
	case !c.env.Traffic():
		d = f.NoTraffic
	case well && changing:
		d = f.HealthyEdge
	case well:
		d = f.Interval
	case changing:
		d = f.UnhealthyEdge
	default:
		d = f.UnhealthyInterval
	}
	ms := uint64(d / time.Millisecond)
	if most := ms * uint64(f.IntervalJitterPercent) / 100; most > 0 {
		ms += c.env.Rand() % most
	}
	if most := uint64(f.IntervalJitter / time.Millisecond); most > 0 {
		ms += c.env.Rand() % most
	}
	ms = max(min(ms, c.max.Get(), uint64(longest/time.Millisecond)), c.min.Get(), 1)
	return time.Duration(min(ms, uint64(longest/time.Millisecond))) * time.Millisecond
}
