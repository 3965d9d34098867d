package route

import (
	"strconv"
	"time"

	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/header"
)

// Timeouts are the time limits of a ForwardAction.
type Timeouts struct {
	Timeout        time.Duration // of the whole exchange, 15 s unless set; 0 is never
	IdleTimeout    time.Duration // 0: that of the connection manager, unless IdleTimeoutSet
	IdleTimeoutSet bool
	// FlushTimeout is flush_timeout, if FlushTimeoutSet.
	FlushTimeout    time.Duration
	FlushTimeoutSet bool

	// MaxStreamDuration is 0 for never; DurationSet says that it replaces that of the
	// connection manager.
	MaxStreamDuration time.Duration
	DurationSet       bool
	// GRPCHeader makes a request's grpc-timeout the duration of its stream: at most
	// GRPCHeaderMax (0: any), less GRPCHeaderOffset (max_stream_duration.grpc_timeout_header_max).
	GRPCHeader                      bool
	GRPCHeaderMax, GRPCHeaderOffset time.Duration

	// GRPC makes a request's grpc-timeout the Timeout of gRPC requests: at most GRPCMax
	// (0: any), less GRPCOffset (max_grpc_timeout, grpc_timeout_offset).
	GRPC                bool
	GRPCMax, GRPCOffset time.Duration
}

// Global returns the time for an exchange, as far as route and grpc-timeout say.
func (t *Timeouts) Global(m *header.Map, grpc bool) time.Duration {
	if !grpc || !t.GRPC {
		return t.Timeout
	}
	d, _ := GRPCTimeout(m)
	if t.GRPCOffset < d {
		d -= t.GRPCOffset
	}
	if t.GRPCMax != 0 && (d == 0 || d > t.GRPCMax) {
		d = t.GRPCMax
	}
	return d
}

// StreamDuration returns how long a stream may take, if the route says so; 0 is for
// ever. otherwise is what the connection manager says. The header grpc-timeout of a gRPC
// request is made to say what comes of it.
func (r *Route) StreamDuration(s *filter.Stream, otherwise time.Duration) (d time.Duration, set bool) {
	if r.Forward == nil {
		return 0, false
	}
	t := &r.Forward.Timeouts
	if !t.GRPCHeader && !t.DurationSet {
		return 0, false
	}
	if d = otherwise; t.DurationSet {
		d = t.MaxStreamDuration
	}
	if own, ok := GRPCTimeout(&s.Request); ok && t.GRPCHeader {
		if d = own; t.GRPCHeaderMax != 0 && d > t.GRPCHeaderMax {
			d = t.GRPCHeaderMax
		}
		d = max(d-t.GRPCHeaderOffset, spent)
	}
	if filter.IsGRPC(&s.Request) {
		if d > 0 {
			SetGRPCTimeout(&s.Request, d)
		} else {
			s.Request.DelID(header.GrpcTimeout)
		}
	}
	return d, true
}

// spent is a time that is over, which 0 is not.
const spent = time.Nanosecond

// StreamFlush returns how long a client of HTTP/2 may keep the response waiting for room,
// if the route says so.
func (r *Route) StreamFlush() (d time.Duration, set bool) {
	if r.Forward == nil {
		return 0, false
	}
	return r.Forward.Timeouts.FlushTimeout, r.Forward.Timeouts.FlushTimeoutSet
}

// StreamIdle returns how long nothing may move on a stream, if the route says so.
func (r *Route) StreamIdle() (d time.Duration, set bool) {
	if r.Forward == nil {
		return 0, false
	}
	return r.Forward.IdleTimeout, r.Forward.IdleTimeoutSet
}

// GRPCTimeout is GRPCDeadline in whole milliseconds, rounded up, as Envoy counts.
func GRPCTimeout(m *header.Map) (time.Duration, bool) {
	d, ok := GRPCDeadline(m)
	if d > longest-time.Millisecond {
		return d, ok
	}
	return (d + time.Millisecond - 1).Truncate(time.Millisecond), ok
}

// longest is the longest time that grpc-timeout is taken for.
const longest = 1 << 62

// GRPCDeadline reads grpc-timeout: at most eight digits and a unit.
func GRPCDeadline(m *header.Map) (time.Duration, bool) {
	v := m.Value(header.GrpcTimeout)
	if len(v) < 2 || len(v) > 9 {
		return 0, false
	}
	n, err := strconv.ParseUint(v[:len(v)-1], 10, 63)
	if err != nil {
		return 0, false
	}
	unit := time.Duration(0)
	switch v[len(v)-1] {
	case 'H':
		unit = time.Hour
	case 'M':
		unit = time.Minute
	case 'S':
		unit = time.Second
	case 'm':
		unit = time.Millisecond
	case 'u':
		unit = time.Microsecond
	case 'n':
		unit = time.Nanosecond
	default:
		return 0, false
	}
	if n > uint64(longest/unit) {
		return longest, true
	}
	return time.Duration(n) * unit, true
}

// SetGRPCTimeout writes grpc-timeout in the smallest unit that it fits into.
func SetGRPCTimeout(m *header.Map, d time.Duration) {
	n, unit := d.Milliseconds(), "m"
	for _, next := range [...]struct {
		per  int64
		unit string
	}{{1000, "S"}, {60, "M"}, {60, "H"}} {
		if n <= 99999999 {
			break
		}
		n, unit = n/next.per, next.unit
	}
	m.SetID(header.GrpcTimeout, m.Format(func(dst []byte) []byte {
		return append(strconv.AppendInt(dst, min(n, 99999999), 10), unit...)
	}))
}
