package router

import (
	"context"
	"errors"
	"time"

	"github.com/mecha-mesh/mecha/proxy/accesslog"
	"github.com/mecha-mesh/mecha/proxy/buffer"
	"github.com/mecha-mesh/mecha/proxy/cluster"
	"github.com/mecha-mesh/mecha/proxy/codec"
	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/header"
	"github.com/mecha-mesh/mecha/proxy/meta"
	"github.com/mecha-mesh/mecha/proxy/netio"
	"github.com/mecha-mesh/mecha/proxy/route"
	"github.com/mecha-mesh/mecha/proxy/why"
)

// attempt makes one try. Its error says how it failed; nil means that the response
// has been passed on to the end.
func (f *Filter) attempt(s *filter.Stream, r *route.Route) (err error) {
	f.beginTrial()
	f.beginSpan(s)
	f.log.begin(s, s.Elapsed())
	s.Response.Reset() // that of the attempt before is not this one's, which may have none
	if err := f.connect(s); err != nil {
		if err != error(&replyNoHealthyHost) {
			f.track(s)
		}
		f.logUnconnected(s, err)
		return err
	}
	defer func() { f.release(s, err) }()
	f.logPoolReady(s)
	if f.action.AttemptCount && s.Meta.Attempts > 1 {
		s.Request.SetInt(header.XEnvoyAttemptCount, int64(s.Meta.Attempts))
	}
	if f.action.AutoHostRewrite && f.conn.Host.Hostname != "" {
		r.RewriteHost(s, f.conn.Host.Hostname, !f.sh.config.SuppressEnvoyHeaders)
	}
	f.conn.CountStallsFor(netio.Stalls{Begun: &f.sh.counters.Paused, Over: &f.sh.counters.Resumed})
	if s.SchemeOfHost {
		setScheme(&s.Request, f.conn)
	}
	f.inject(s)
	next, err := f.exchange(s)
	if err == nil {
		err = f.eager(s)
	}
	if err != nil {
		return err
	}
	code := s.Response.StatusCode()
	if f.retry != nil && f.retry.Covers(&s.Response, code) {
		if f.mayRetry(s, true) {
			f.conn.Host.Stats().RqError.Inc()
			f.cluster.Stats().RetryRq.Count(code)
			f.drop(next)
			return &retryResponse{code}
		}
		note(s, why.Retry, "keeps a response that retry_on covers", f.limit(s))
	}
	f.countHost(&s.Response, next == codec.End)
	if f.follow(s, code) {
		f.drop(next)
		return errRedirect
	}
	f.countResponse(s, code)
	return f.respond(s, r, next)
}

// setScheme makes the scheme of a request that by which the host is reached.
func setScheme(m *header.Map, c *cluster.Conn) {
	if c.TLS != nil {
		m.SetID(header.Scheme, "https")
	} else {
		m.SetID(header.Scheme, "http")
	}
}

// connect picks a host and takes a connection to it.
func (f *Filter) connect(s *filter.Stream) error {
	host, err := f.cluster.Pick(&f.at)
	notePick(s, host, err)
	if err != nil {
		return &replyNoHealthyHost
	}
	f.host = host
	s.Meta.ClusterMetadata = f.cluster.Spec().LogMetadata
	s.Meta.UpstreamHost, s.Meta.UpstreamHostname, s.Meta.HostMetadata = host.Addr, host.Hostname, host.Metadata
	before := s.Elapsed()
	f.at.Now = s.Now()
	if err = f.open(host); f.at.Waited {
		s.Tick()
	}
	s.Meta.PoolReady = max(s.Elapsed()-before, 1)
	f.noteConnection(s, host, err)
	if f.conn == nil {
		reportUnconnected(host, err)
		f.noteTried(host)
		if errors.Is(err, cluster.ErrNoHealthyHost) { // max_connection_pools, which Envoy answers so
			s.Meta.UpstreamHost, s.Meta.UpstreamHostname = meta.Addr{}, ""
			return &replyNoHealthyHost
		}
		return err
	}
	s.Meta.UpstreamLocal, s.Meta.UpstreamConn, s.Meta.UpstreamTLS = f.conn.Local, f.conn.ID, f.conn.TLS
	f.noteTried(host)
	if err != nil {
		reused := f.conn.Used()
		f.cluster.Release(f.conn, false)
		reportBroken(host)
		return &upstreamFailure{err: err, reused: reused}
	}
	f.up = f.around(s, f.up)
	reportConnected(host)
	for _, p := range f.parts.All() {
		p.Total.Inc()
	}
	return nil
}

// maxOpens is how many connections are asked for a stream that turn out to be full.
const maxOpens = 4

// open takes a connection and a stream of it. Between the two the host may have said how
// many it allows, which is less than was thought: then another connection is asked for.
// An error with a connection is the stream's.
func (f *Filter) open(host *cluster.Host) (err error) {
	f.conn, f.up, err = open(context.Background(), f.cluster, host, &f.at, f.until)
	return err
}

func open(ctx context.Context, c *cluster.Cluster, host *cluster.Host, at *cluster.Attempt, until time.Time) (*cluster.Conn, codec.ClientStream, error) {
	acquire := c.Acquire
	if at.Fresh {
		acquire = c.AcquireFresh
	}
	for range maxOpens {
		conn, err := acquire(ctx, host, at, until)
		if err != nil {
			return nil, nil, err
		}
		up, err := conn.Open(ctx)
		if !errors.Is(err, codec.ErrFull) {
			return conn, up, err
		}
		c.Release(conn, false)
	}
	return nil, nil, cluster.ErrOverflow
}

func (f *Filter) noteTried(h *cluster.Host) {
	f.tried = append(f.tried, h)
	f.at.Tried = f.tried
}

// exchange sends the request and waits for the final response head.
func (f *Filter) exchange(s *filter.Stream) (codec.Next, error) {
	reused := f.conn.Used()
	f.hold(true)
	s.Meta.UpstreamStart = s.Elapsed()
	if err := f.send(s); err != nil {
		if upstreamFault(err) {
			reportBroken(f.conn.Host)
			_, written := f.up.WireBytes()
			return 0, &upstreamFailure{err: err, reused: reused, sent: written.Header > 0}
		}
		return 0, err
	}
	for {
		s.Response.Reset()
		next, err := f.await(s)
		if err != nil {
			return 0, f.awaitFailed(s, err, reused)
		}
		code := s.Response.StatusCode()
		if code >= 200 || code == 101 {
			s.Meta.ResponseStart = s.Elapsed()
			s.Meta.UpstreamProtocol = f.up.Protocol()
			if f.cluster.Sizes() != nil {
				f.trial.head = sizeOf(&s.Response)
			}
			f.log.answered(s, code)
			reportHead(f.conn.Host, &s.Response, f.grpc)
			if f.cluster.Reports() {
				f.cluster.Report(f.conn.Host, s.Meta.ResponseStart-s.Meta.UpstreamStart, &s.Response)
			}
			return next, nil
		}
		if err := s.Engine.SendInformational(&s.Response); err != nil {
			return 0, err
		}
	}
}

// send writes the head and what of the body is at hand. A body that is still on its
// way is left to the pump.
func (f *Filter) send(s *filter.Stream) error {
	body := s.Engine.RequestBody()
	first := s.Meta.Attempts == 1
	upgrade := opens(s)
	end := body == codec.End && f.replay.Buf.Len() == 0
	if err := f.up.WriteHeaders(&s.Request, end); err != nil {
		return err
	}
	if end || upgrade {
		// What is held back leaves with the wait for the response.
		s.Meta.UpstreamEnd = s.Elapsed()
		return nil
	}
	if (!first || f.hedge.preread) && f.replay.Buf.Len() > 0 {
		var again buffer.Buf
		f.log.again(f.replay.Buf.Len())
		f.replay.Buf.Share(&again, f.replay.Buf.Len())
		done := f.replay.Ended && !f.replay.Trailers
		if err := f.up.WriteData(&again, done); err != nil {
			return err
		}
	}
	if f.replay.Ended {
		if f.replay.Trailers {
			return f.up.WriteTrailers(&s.RequestTrailers)
		}
		return f.up.Flush()
	}
	left, err := s.Engine.RelayRequest(f.up, f.replayOrNil(), true)
	s.Tick()
	if err != nil {
		return err
	}
	if left == codec.End {
		f.shadows.send(f.sh, &f.replay, &s.RequestTrailers)
		return nil
	}
	f.pump.start(f, s)
	return nil
}

// hold lets the end of the request leave together with the wait for the response, while
// one goroutine does both.
func (f *Filter) hold(on bool) {
	if h, ok := f.up.(codec.EndHolder); ok {
		h.HoldEnd(on)
	}
}

func (f *Filter) replayOrNil() *filter.Replay {
	if f.keep {
		return &f.replay
	}
	return nil
}

// release ends the attempt: it stops the pump and gives the connection back. failed is
// how the attempt ended.
func (f *Filter) release(s *filter.Stream, failed error) {
	if f.up == nil {
		return
	}
	clean := f.pump.stop(s)
	f.countBytes(f.up.WireBytes())
	f.track(s)
	f.log.write(s, accesslog.UpstreamEnd, f.up.Protocol(), failed)
	if s.Lasting {
		s.Response.Keep()
		s.ResponseTrailers.Keep()
	}
	switch over := f.up.Release(); {
	case over || failed == nil:
		f.cluster.ReleaseAt(f.conn, over && clean, s.Now())
	default:
		f.cluster.Abandon(f.conn)
	}
	f.up, f.conn = nil, nil
}

// drop gives up a response that is going to be replaced by a retry's.
func (f *Filter) drop(next codec.Next) {
	if next != codec.End {
		f.log.cancel()
		f.up.Reset(codec.ResetCancel)
	}
}
