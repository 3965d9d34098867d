package router

import (
	"errors"
	"time"

	"github.com/mecha-mesh/mecha/proxy/accesslog"
	"github.com/mecha-mesh/mecha/proxy/cluster"
	"github.com/mecha-mesh/mecha/proxy/codec"
	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/header"
	"github.com/mecha-mesh/mecha/proxy/meta"
	"github.com/mecha-mesh/mecha/proxy/trace"
)

// attemptLog is what upstream_log and the span of the attempt under way tell of it. A line has the code that
// the host has sent, and counts body bytes of this attempt only: received from the host,
// sent to it.
type attemptLog struct {
	logs     *accesslog.Set
	start    time.Duration // of the attempt, since the stream's
	received int64         // what the stream had received before
	sent     int64         // what it had sent, less what was sent again
	code     int           // 0 before there is a response
	response header.Map    // as it came: a copy
	line     meta.Stream
	span     *trace.Span // nil: none
	memory   *trace.Span
}

// silent reports that nobody wants to know of the attempt.
func (l *attemptLog) silent() bool { return l == nil || l.logs == nil && l.span == nil }

// begin is the beginning of an attempt. A nil l logs nothing.
func (l *attemptLog) begin(s *filter.Stream, start time.Duration) {
	if l.silent() {
		return
	}
	l.start, l.received, l.sent, l.code = start, s.Meta.UpstreamReceived, s.Meta.UpstreamSent, 0
}

// again notes n bytes of the request body that were sent to an earlier host, too.
func (l *attemptLog) again(n int) {
	if l != nil {
		l.sent -= int64(n)
	}
}

// answered notes the head of the response, before anybody changes it.
func (l *attemptLog) answered(s *filter.Stream, code int) {
	if l.silent() {
		return
	}
	l.code = code
	l.response.Reset()
	s.Response.CopyTo(&l.response, true)
}

// write writes a line about the attempt. protocol is that of its connection.
// err is how the attempt ended.
func (l *attemptLog) write(s *filter.Stream, t accesslog.Type, protocol meta.Protocol, err error) {
	l.put(s, t, protocol, attemptFlags(err), err)
}

func (l *attemptLog) put(s *filter.Stream, t accesslog.Type, protocol meta.Protocol, flags meta.Flag, err error) {
	if l.silent() {
		return
	}
	l.line = s.Meta
	m := &l.line
	m.Start, m.Protocol, m.UpstreamProtocol = m.Start.Add(l.start), protocol, protocol
	m.Code, m.Details, m.Flags, m.Attempts, m.VirtualCluster = l.code, "", flags, 0, ""
	m.BytesReceived, m.BytesSent = m.UpstreamReceived-l.received, m.UpstreamSent-l.sent
	m.HeaderReceived, m.HeaderSent, m.RequestEnd, m.DownstreamStart = 0, 0, 0, 0
	for _, phase := range []*time.Duration{&m.UpstreamStart, &m.UpstreamEnd, &m.ResponseStart, &m.ResponseEnd} {
		if own := *phase >= l.start && *phase > 0; own {
			*phase = max(*phase-l.start, 1) // at once is not never
		} else {
			*phase = 0 // of an attempt before
		}
	}
	if m.End = 0; t == accesslog.UpstreamEnd {
		m.End = max(s.Elapsed()-l.start, 1)
	}
	e := *s.LogEntry()
	e.Type, e.Stream, e.Response, e.Trailers, e.LocalReplyBody = t, m, &l.response, &s.ResponseTrailers, ""
	if l.code == 0 {
		e.Response, e.Trailers = nil, nil
	}
	l.logs.Log(&e)
	if t == accesslog.UpstreamEnd {
		l.endSpan(s, &e, err)
	}
}

// logPoolReady writes the line of an attempt that has its connection
// (flush_upstream_log_on_upstream_stream).
func (f *Filter) logPoolReady(s *filter.Stream) {
	if f.sh.config.LogPoolReady {
		f.log.write(s, accesslog.UpstreamPoolReady, f.up.Protocol(), nil)
	}
}

// logUnconnected writes the line of an attempt that got no stream to a host. Where there
// was no host, there was no attempt.
func (f *Filter) logUnconnected(s *filter.Stream, err error) {
	if err != &replyNoHealthyHost {
		f.log.write(s, accesslog.UpstreamEnd, meta.Unknown, err)
	}
}

// logTry writes the line of an overlapping attempt that is given up.
func (rc *race) logTry(t *try) {
	f, s := rc.f, rc.s
	f.log.give(t.span)
	if f.log.silent() {
		return
	}
	f.log.begin(s, max(t.begun.Sub(s.Meta.Start), 1))
	f.log.again(f.replay.Buf.Len())
	flags := meta.Flag(0)
	if t.retried {
		flags = meta.UpstreamRequestTimeout
	}
	t.mu.Lock()
	host, protocol, delivered := t.host, t.protocol, t.delivered
	t.mu.Unlock()
	if host == nil {
		return
	}
	if delivered && t.err == nil {
		f.log.code = t.response.StatusCode()
		f.log.response.Reset()
		t.response.CopyTo(&f.log.response, true)
	} else if delivered && !t.retried {
		flags = attemptFlags(t.err)
	}
	was := s.Meta
	s.Meta.UpstreamHost, s.Meta.UpstreamHostname = host.Addr, host.Hostname
	f.log.put(s, accesslog.UpstreamEnd, protocol, flags, t.err)
	s.Meta = was
}

// attemptFlags says what was wrong with an attempt by itself: not that the client has gone,
// or that the time for all attempts was over.
func attemptFlags(err error) meta.Flag {
	if err == nil { // nearly always: what follows allocates
		return 0
	}
	var slow *tryTimeout
	var ce *cluster.ConnectError
	var bad *codec.ProtocolError
	var fe *filter.Error
	var uf *upstreamFailure
	switch {
	case errors.As(err, &slow):
		if slow == errTryIdle {
			return meta.StreamIdleTimeout
		}
		return slow.reply.Flags
	case errors.As(err, &ce):
		return meta.UpstreamConnectionFailure
	case errors.Is(err, cluster.ErrOverflow), errors.Is(err, cluster.ErrPendingOverflow):
		return meta.UpstreamOverflow
	case errors.As(err, &bad):
		return meta.UpstreamProtocolError
	case errors.As(err, &fe):
		if fe.Source == filter.Upstream && fe.Code != 504 {
			return fe.Flag
		}
	case errors.As(err, &uf):
		return meta.UpstreamConnectionTermination
	}
	return 0
}
