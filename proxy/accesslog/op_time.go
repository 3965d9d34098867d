package accesslog

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// defineTime knows the operators about points in time and durations.
func defineTime(name string) (definition, bool) {
	switch name {
	case "START_TIME", "START_TIME_LOCAL", "EMIT_TIME", "EMIT_TIME_LOCAL":
		return definition{args: timeArgs, build: func(args string) (appendFunc, error) {
			return timeOperator(args, strings.HasPrefix(name, "EMIT"), strings.HasSuffix(name, "LOCAL"))
		}}, true
	case "COMMON_DURATION":
		return definition{args: mustArgs, kind: number, build: commonDuration}, true
	}
	var from, to point
	switch name {
	case "DURATION":
		from, to = begin, elapsed
	case "REQUEST_DURATION":
		from, to = begin, requestEnd
	case "REQUEST_TX_DURATION":
		from, to = begin, upstreamEnd
	case "RESPONSE_DURATION":
		from, to = begin, responseStart
	case "RESPONSE_TX_DURATION":
		from, to = responseStart, end
	case "UPSTREAM_CONNECTION_POOL_READY_DURATION":
		from, to = begin, poolReady
	case "ROUNDTRIP_DURATION": // of QUIC
		return definition{kind: number}, true
	default:
		return definition{}, false
	}
	return definition{kind: number, plain: duration(from, to, time.Millisecond)}, true
}

// point returns when something happened, since the start of the stream, and whether
// it did.
type point func(*Entry) (time.Duration, bool)

func begin(*Entry) (time.Duration, bool) { return 0, true }

// elapsed is the end, or now while the stream still runs.
func elapsed(e *Entry) (time.Duration, bool) {
	s := e.Stream
	switch {
	case s == nil:
		return 0, false
	case s.End != 0 || s.Start.IsZero():
		return s.End, true
	}
	return e.now().Sub(s.Start), true
}

func requestEnd(e *Entry) (time.Duration, bool)    { d := e.stream().RequestEnd; return d, d != 0 }
func upstreamStart(e *Entry) (time.Duration, bool) { d := e.stream().UpstreamStart; return d, d != 0 }
func upstreamEnd(e *Entry) (time.Duration, bool)   { d := e.stream().UpstreamEnd; return d, d != 0 }
func responseStart(e *Entry) (time.Duration, bool) { d := e.stream().ResponseStart; return d, d != 0 }
func responseEnd(e *Entry) (time.Duration, bool)   { d := e.stream().ResponseEnd; return d, d != 0 }
func downstreamStart(e *Entry) (time.Duration, bool) {
	d := e.stream().DownstreamStart
	return d, d != 0
}
func end(e *Entry) (time.Duration, bool)       { d := e.stream().End; return d, d != 0 }
func poolReady(e *Entry) (time.Duration, bool) { d := e.stream().PoolReady; return d, d != 0 }
func never(*Entry) (time.Duration, bool)       { return 0, false }

func duration(from, to point, unit time.Duration) appendFunc {
	return func(dst []byte, e *Entry) ([]byte, bool) {
		a, ok := from(e)
		b, ok2 := to(e)
		if !ok || !ok2 || b < a {
			return dst, false
		}
		return appendUnits(dst, b-a, unit), true
	}
}

// commonDuration takes START:END and optionally :ms, :us or :ns.
func commonDuration(args string) (appendFunc, error) {
	parts := strings.Split(args, ":")
	if len(parts) < 2 || len(parts) > 3 {
		return nil, errors.New("wants START:END or START:END:PRECISION")
	}
	unit := time.Millisecond
	if len(parts) == 3 {
		var err error
		if unit, err = precisionNamed(parts[2]); err != nil {
			return nil, err
		}
	}
	return duration(pointNamed(parts[0]), pointNamed(parts[1]), unit), nil
}

// precisionNamed finds the unit of a duration.
func precisionNamed(name string) (time.Duration, error) {
	switch name {
	case "ms":
		return time.Millisecond, nil
	case "us":
		return time.Microsecond, nil
	case "ns":
		return time.Nanosecond, nil
	}
	return 0, fmt.Errorf("%q is not ms, us or ns", name)
}

func appendUnits(dst []byte, d, unit time.Duration) []byte {
	return strconv.AppendInt(dst, int64(d/unit), 10)
}

// pointNamed finds a point in time. Names that are not known may be set by filters
// in Envoy; they never happened here.
func pointNamed(name string) point {
	switch name {
	case "DS_RX_BEG":
		return begin
	case "DS_RX_END":
		return requestEnd
	case "US_TX_BEG":
		return upstreamStart
	case "US_TX_END":
		return upstreamEnd
	case "US_RX_BEG":
		return responseStart
	case "US_RX_END":
		return responseEnd
	case "DS_TX_BEG":
		return downstreamStart
	case "DS_TX_END":
		return end
	}
	return never
}

func timeOperator(layout string, emit, local bool) (appendFunc, error) {
	if strings.ContainsAny(layout, "\r\n") || strings.Contains(layout, "%n") {
		return nil, errors.New("contains a newline")
	}
	t := compileTime(layout, local)
	return func(dst []byte, e *Entry) ([]byte, bool) {
		at := e.stream().Start
		switch {
		case emit:
			at = e.now()
		case at.IsZero() && e.Conn != nil:
			at = e.Conn.Start
		}
		if at.IsZero() {
			return dst, false
		}
		if local {
			at = at.Local()
		} else {
			at = at.UTC()
		}
		return t.append(dst, at), true
	}, nil
}
