package router

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/mecha-mesh/mecha/proxy/buffer"
	"github.com/mecha-mesh/mecha/proxy/cluster"
	"github.com/mecha-mesh/mecha/proxy/codec"
	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/filter/call"
	"github.com/mecha-mesh/mecha/proxy/header"
	"github.com/mecha-mesh/mecha/proxy/meta"
	"github.com/mecha-mesh/mecha/proxy/route"
	"github.com/mecha-mesh/mecha/proxy/trace"
)

// hedge says when a second attempt begins while the first one is still under way.
type hedge struct {
	onTimeout bool // hedge_on_per_try_timeout
	preread   bool // the replay buffer holds what was read of the request in advance
}

// maxTries is how many attempts of one request may overlap.
const maxTries = 64

// hedgeOf takes the policy from the route and from x-envoy-hedge-on-per-try-timeout.
func (f *Filter) hedgeOf(s *filter.Stream) hedge {
	h := hedge{onTimeout: f.action.HedgeOnTimeout}
	if s.Request.Has(header.XEnvoyHedgeOnPerTryTimeout) {
		switch s.Request.Value(header.XEnvoyHedgeOnPerTryTimeout) {
		case "true":
			h.onTimeout = true
		case "false":
			h.onTimeout = false
		}
		s.Request.DelID(header.XEnvoyHedgeOnPerTryTimeout)
	}
	return h
}

// hedges reports whether attempts of this request may overlap. That needs the whole
// request: one with a length is read in advance, if it may be kept; one without could be
// a conversation, in which upstream has to hear the beginning before there is an end.
// Filters before the hosts see one attempt after the other.
func (f *Filter) hedges(s *filter.Stream) (bool, error) {
	if !f.hedge.onTimeout || f.retry == nil || f.timing.perTry <= 0 || len(f.upstreamFilters()) > 0 {
		return false, nil
	}
	if s.Engine.RequestBody() == codec.End {
		return true, nil
	}
	if !s.Request.Has(header.ContentLength) || s.Request.Has(header.Upgrade) {
		return false, nil
	}
	f.hedge.preread = true
	for s.Engine.RequestBody() != codec.End {
		next, err := s.Engine.Recv(&f.replay.Buf)
		if err != nil {
			return false, err
		}
		if f.replay.Buf.Len() > f.replay.Limit {
			f.replay.Overflow = true
			return false, nil
		}
		if next != codec.Data {
			break
		}
	}
	if f.until.IsZero() && f.timing.global > 0 {
		f.until = time.Now().Add(f.timing.global)
	}
	f.replay.Ended, f.replay.Trailers = true, s.RequestTrailers.Len() > 0
	s.Meta.UpstreamSent = int64(f.replay.Buf.Len())
	f.shadows.send(f.sh, &f.replay, &s.RequestTrailers)
	return true, nil
}

// try is an attempt that may overlap with others: it has a goroutine, a request head and
// a response head of its own.
type try struct {
	cluster  *cluster.Cluster
	at       cluster.Attempt
	request  header.Map
	trailers *header.Map // shared: nobody changes them
	scheme   bool        // the request has that of the host
	body     buffer.Buf
	until    time.Time
	begun    time.Time
	limit    time.Duration
	retried  bool // another one has begun in its stead
	slow     bool // outlier detection knows that it takes too long

	host     *cluster.Host
	conn     *cluster.Conn
	response header.Map
	next     codec.Next
	err      error

	ctx       context.Context
	stop      context.CancelFunc
	mu        sync.Mutex
	up        codec.ClientStream
	protocol  meta.Protocol // of its connection
	span      *trace.Span   // nil: none
	cancelled bool
	delivered bool
}

// run makes the attempt up to the head of the response and delivers itself.
func (t *try) run(to chan<- *try) {
	t.err = t.exchange()
	t.mu.Lock()
	cancelled := t.cancelled
	if !cancelled {
		t.delivered = true
		to <- t // there is room for all
	}
	t.mu.Unlock()
	if cancelled {
		t.release()
	}
}

func (t *try) exchange() (err error) {
	host, err := t.cluster.Pick(&t.at)
	if err != nil {
		return &replyNoHealthyHost
	}
	t.mu.Lock()
	t.host = host
	t.mu.Unlock()
	conn, up, err := open(t.ctx, t.cluster, t.host, &t.at, t.until)
	if conn == nil {
		reportUnconnected(t.host, err)
		return err
	}
	if err != nil {
		t.cluster.Release(conn, false)
		reportBroken(t.host)
		return &upstreamFailure{err: err}
	}
	if t.conn = conn; t.scheme {
		setScheme(&t.request, conn)
	}
	reportConnected(t.host)
	t.mu.Lock()
	t.up, t.protocol = up, up.Protocol()
	cancelled := t.cancelled
	t.mu.Unlock()
	if cancelled {
		return context.Canceled
	}
	if err := up.SetReadDeadline(t.until); err != nil {
		return &upstreamFailure{err: err}
	}
	if err := call.WriteWhole(up, &t.request, &t.body, t.trailers, t.until); err != nil {
		t.reportHedged()
		return &upstreamFailure{err: err, sent: true}
	}
	for {
		t.response.Reset()
		if t.next, err = up.ReadHeaders(&t.response); err != nil {
			t.reportHedged()
			return &upstreamFailure{err: err, sent: true}
		}
		if t.response.StatusCode() >= 200 {
			reportHead(t.host, &t.response, filter.IsGRPC(&t.request))
			return nil
		}
	}
}

// cancel ends an attempt that nobody waits for any more.
func (t *try) cancel() {
	t.stop()
	t.mu.Lock()
	t.cancelled = true
	if t.up != nil && !t.delivered {
		t.up.Interrupt()
		t.up.StopWriting()
	}
	t.mu.Unlock()
}

// release gives the connection back. Nothing more is read from it.
func (t *try) release() {
	t.stop()
	t.body.Release()
	if t.host != nil && !errors.Is(t.err, context.Canceled) {
		t.track()
	}
	if t.up == nil {
		return
	}
	read, written := t.up.WireBytes()
	t.conn.CountBytes(read.Header+read.Body, written.Header+written.Body)
	if t.err != nil || t.next != codec.End {
		t.up.Reset(codec.ResetCancel)
	}
	if t.up.Release() {
		t.cluster.Release(t.conn, true)
	} else {
		t.cluster.Abandon(t.conn)
	}
	t.up = nil
}

// race is what overlapping attempts of one request have in common.
type race struct {
	f       *Filter
	s       *filter.Stream
	results chan *try
	tries   []*try // under way
	begun   time.Time
	delayed bool // the next attempt waits for its back-off
	start   time.Time
	timeout bool // the next attempt is one because another one took too long
	held    []cluster.Ticket
}

// forwardHedged sends the request, and again when an attempt takes longer than the
// per-try timeout: the first good response wins, the last bad one is better than none.
func (f *Filter) forwardHedged(s *filter.Stream, r *route.Route) error {
	rc := &race{f: f, s: s, begun: time.Now(), results: make(chan *try, maxTries)}
	defer rc.end()
	rc.launch()
	for {
		t, err := rc.wait()
		if err != nil {
			return err
		}
		if t == nil {
			continue
		}
		if done, err := rc.judge(t); done {
			if err != nil {
				return f.final(s, err)
			}
			return rc.accept(t, r)
		}
	}
}

// launch begins an attempt.
func (rc *race) launch() {
	f, s := rc.f, rc.s
	s.Meta.Attempts++
	if s.Meta.Attempts > 1 {
		f.cluster.Stats().UpstreamRqRetry.Inc()
		f.retell(s, rc.timeout)
	}
	if f.action.AttemptCount {
		s.Request.SetInt(header.XEnvoyAttemptCount, int64(s.Meta.Attempts))
	}
	rc.delayed, rc.timeout = false, false
	t := &try{cluster: f.cluster, at: f.at, trailers: &s.RequestTrailers, scheme: s.SchemeOfHost, begun: time.Now(), limit: f.timing.perTry}
	if !f.until.IsZero() {
		t.until = f.until.Add(time.Second) // who waits for it is earlier
	}
	t.at.Headers, t.at.Tried = &t.request, append([]*cluster.Host(nil), f.tried...)
	f.beginSpan(s)
	f.inject(s)
	t.span = f.log.take()
	s.Request.CopyTo(&t.request, true)
	f.replay.Buf.Share(&t.body, f.replay.Buf.Len())
	t.ctx, t.stop = context.WithCancel(context.Background())
	rc.tries = append(rc.tries, t)
	go t.run(rc.results)
}

// wait waits for the next attempt to end, or for something else to happen: then it
// returns nil, or an error that ends the request.
func (rc *race) wait() (*try, error) {
	f, now := rc.f, time.Now()
	at := now.Add(lookAgain)
	at = earlier(at, f.until)
	if rc.delayed {
		at = earlier(at, rc.start)
	}
	newest := rc.tries[max(len(rc.tries)-1, 0):]
	for _, t := range newest {
		if !t.retried {
			at = earlier(at, t.begun.Add(f.timing.perTry))
		}
	}
	timer := time.NewTimer(time.Until(at))
	defer timer.Stop()
	select {
	case t := <-rc.results:
		return t, nil
	case <-timer.C:
	}
	switch {
	case f.expired():
		f.cluster.Stats().UpstreamRqTimeout.Inc()
		rc.reportSlow(rc.tries)
		reply := f.timeoutReply(rc.s, &replyTimeout)
		f.countReply(rc.s, reply)
		return nil, reply
	case rc.delayed && past(rc.start):
		rc.launch()
		return nil, nil
	}
	for _, t := range newest {
		if !t.retried && !rc.delayed && past(t.begun.Add(f.timing.perTry)) {
			t.retried = true
			rc.reportSlow([]*try{t})
			if len(rc.tries) < maxTries && f.mayRetry(rc.s, false) {
				rc.timeout = true
				rc.delay()
			}
			return nil, nil
		}
	}
	if err := rc.s.Engine.Overdue(rc.begun); err != nil {
		return nil, err
	}
	return nil, rc.s.Engine.Sleep(time.Millisecond) // is the client still there?
}

// delay lets the next attempt begin after its back-off.
func (rc *race) delay() {
	f := rc.f
	rc.held = append(rc.held, f.again)
	f.again = cluster.Ticket{}
	wait := f.asked
	if f.asked = 0; wait == 0 {
		wait = f.retry.Backoff.Pause(int(f.retries))
	}
	rc.delayed, rc.start = true, time.Now().Add(wait)
}

// judge says whether an attempt that has ended is the answer: its response, if there is
// no error. If not, it is given up for those that are under way or to come.
func (rc *race) judge(t *try) (done bool, err error) {
	f, s := rc.f, rc.s
	rc.forget(t)
	if t.host != nil {
		f.noteTried(t.host)
		f.host = t.host
		s.Meta.UpstreamHost, s.Meta.UpstreamHostname = t.host.Addr, t.host.Hostname
	}
	if t.err != nil {
		f.countFailure(t.err)
		if !t.retried && f.matches(t.err) && f.mayRetry(s, false) {
			rc.logTry(t)
			t.release()
			rc.delay()
			return false, nil
		}
		rc.logTry(t)
		t.release()
		if len(rc.tries) > 0 || rc.delayed {
			return false, nil
		}
		return true, f.answer(s, t.err)
	}
	code := t.response.StatusCode()
	if !f.retry.Covers(&t.response, code) {
		return true, nil
	}
	if !t.retried {
		s.Response.Reset()
		t.response.CopyTo(&s.Response, true)
		if f.mayRetry(s, true) {
			f.cluster.Stats().RetryRq.Count(code)
			t.host.Stats().RqError.Inc()
			rc.logTry(t)
			t.release()
			rc.delay()
			return false, nil
		}
	}
	if len(rc.tries) > 0 || rc.delayed {
		t.host.Stats().RqError.Inc()
		rc.logTry(t)
		t.release()
		return false, nil
	}
	return true, nil
}

// accept passes the response of an attempt on.
func (rc *race) accept(t *try, r *route.Route) (err error) {
	f, s := rc.f, rc.s
	rc.end()
	t.stop()
	f.conn, f.up = t.conn, t.up
	f.trial = trial{begun: t.begun, head: sizeOf(&t.response)}
	s.Meta.UpstreamLocal, s.Meta.UpstreamConn, s.Meta.UpstreamTLS = t.conn.Local, t.conn.ID, t.conn.TLS
	s.Meta.UpstreamStart = max(t.begun.Sub(s.Meta.Start), 1)
	s.Meta.UpstreamEnd = s.Meta.UpstreamStart
	s.Meta.ResponseStart = s.Tick()
	s.Meta.UpstreamProtocol = t.up.Protocol()
	s.Response.Reset()
	t.response.CopyTo(&s.Response, true)
	defer func() { f.release(s, err) }()
	code := s.Response.StatusCode()
	f.log.give(t.span)
	f.log.begin(s, s.Meta.UpstreamStart)
	f.log.again(f.replay.Buf.Len())
	f.log.answered(s, code)
	f.countHost(&s.Response, t.next == codec.End)
	f.countResponse(s, code)
	return f.respond(s, r, t.next)
}

// forget takes an attempt out of those under way.
func (rc *race) forget(t *try) {
	for i := range rc.tries {
		if rc.tries[i] == t {
			rc.tries = append(rc.tries[:i], rc.tries[i+1:]...)
			return
		}
	}
}

// end gives up what is still under way. It may be called again.
func (rc *race) end() {
	for _, t := range rc.tries {
		rc.logTry(t)
		t.cancel()
	}
	for range rc.tries {
		select {
		case t := <-rc.results:
			t.release()
		default:
		}
	}
	rc.tries = nil
	for _, h := range rc.held {
		h.Done()
	}
	rc.held = nil
}
