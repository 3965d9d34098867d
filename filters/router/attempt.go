package router

import (
	"context"
	"errors"

	"github.com/mecha-mesh/mecha/proxy/buffer"
	"github.com/mecha-mesh/mecha/proxy/cluster"
	"github.com/mecha-mesh/mecha/proxy/codec"
	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/header"
	"github.com/mecha-mesh/mecha/proxy/meta"
	"github.com/mecha-mesh/mecha/proxy/route"
)

// attempt makes one try. Its error says how it failed; nil means that the response
// has been passed on to the end.
func (f *Filter) attempt(s *filter.Stream, r *route.Route) (err error) {
	if err := f.connect(s); err != nil {
		return err
	}
	defer func() { f.release(s, err) }()
	if f.action.AttemptCount && s.Meta.Attempts > 1 {
		s.Request.SetInt(header.XEnvoyAttemptCount, int64(s.Meta.Attempts))
	}
	if f.action.AutoHostRewrite && f.conn.Host.Hostname != "" {
		r.RewriteHost(s, f.conn.Host.Hostname, !f.sh.config.SuppressEnvoyHeaders)
	}
	next, err := f.exchange(s)
	if err != nil {
		return err
	}
	code := s.Response.StatusCode()
	f.countHost(code)
	if f.retry != nil && f.retry.Covers(&s.Response, code) && f.mayRetry(s, true) {
		f.cluster.Stats().RetryRq.Count(code)
		f.drop(next)
		return &retryResponse{code}
	}
	if f.follow(s, code) {
		s.Response.Keep() // the log of this exchange is written after its connection was given back
		f.drop(next)
		return errRedirect
	}
	f.countResponse(s, code)
	return f.respond(s, r, next)
}

// connect picks a host and takes a connection to it.
func (f *Filter) connect(s *filter.Stream) error {
	host, err := f.cluster.Pick(&f.at)
	if err != nil {
		return &replyNoHealthyHost
	}
	f.host = host
	s.Meta.ClusterMetadata = f.cluster.Spec().LogMetadata
	s.Meta.UpstreamHost, s.Meta.UpstreamHostname, s.Meta.HostMetadata = host.Addr, host.Hostname, host.Metadata
	before := s.Elapsed()
	f.conn, err = f.acquire(host)
	s.Meta.PoolReady = max(s.Tick()-before, 1)
	if err != nil {
		f.noteTried(host)
		if errors.Is(err, cluster.ErrNoHealthyHost) { // max_connection_pools, which Envoy answers so
			s.Meta.UpstreamHost, s.Meta.UpstreamHostname = meta.Addr{}, ""
			return &replyNoHealthyHost
		}
		return err
	}
	s.Meta.UpstreamLocal, s.Meta.UpstreamConn = f.conn.Local, f.conn.ID
	if f.up, err = f.conn.Open(context.Background()); err != nil {
		f.cluster.Release(f.conn, false)
		f.noteTried(host)
		return &upstreamFailure{err: err, reused: f.conn.Used()}
	}
	f.noteTried(host)
	for _, p := range f.parts.All() {
		p.Total.Inc()
	}
	return nil
}

func (f *Filter) acquire(host *cluster.Host) (*cluster.Conn, error) {
	if f.at.Fresh {
		return f.cluster.AcquireFresh(context.Background(), host, &f.at, f.until)
	}
	return f.cluster.Acquire(context.Background(), host, &f.at, f.until)
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
	upgrade := s.Request.Has(header.Upgrade) || s.Request.Value(header.Method) == "CONNECT"
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
	switch over := f.up.Release(); {
	case over || failed == nil:
		f.cluster.Release(f.conn, over && clean)
	default:
		f.cluster.Abandon(f.conn)
	}
	f.up, f.conn = nil, nil
}

// drop gives up a response that is going to be replaced by a retry's.
func (f *Filter) drop(next codec.Next) {
	if next != codec.End {
		f.up.Reset(codec.ResetCancel)
	}
}
