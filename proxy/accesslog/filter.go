package accesslog

import (
	"math/rand/v2"
	"time"

	"github.com/mecha-mesh/mecha/proxy/header"
	"github.com/mecha-mesh/mecha/proxy/meta"
)

// Filter decides whether an entry is logged. Filters are immutable and safe for
// concurrent use.
type Filter interface{ Match(e *Entry) bool }

// Compare is the operator of a comparison (ComparisonFilter.op).
type Compare uint8

// The operators.
const (
	Equal Compare = iota
	AtLeast
	AtMost
	NotEqual
)

func (c Compare) holds(a, b int64) bool {
	switch c {
	case AtLeast:
		return a >= b
	case AtMost:
		return a <= b
	case NotEqual:
		return a != b
	}
	return a == b
}

// StatusCode compares the response code; 0 when there was none (status_code_filter).
type StatusCode struct {
	Op    Compare
	Value int
}

// Match implements Filter.
func (f StatusCode) Match(e *Entry) bool { return f.Op.holds(int64(e.stream().Code), int64(f.Value)) }

// Duration compares how long the stream took, in milliseconds (duration_filter).
type Duration struct {
	Op    Compare
	Value time.Duration
}

// Match implements Filter. A stream whose end is not known does not match.
func (f Duration) Match(e *Entry) bool {
	d, ok := elapsed(e)
	return ok && f.Op.holds(d.Milliseconds(), f.Value.Milliseconds())
}

// NotHealthCheck passes what is not a health check (not_health_check_filter).
type NotHealthCheck struct{}

// Match implements Filter.
func (NotHealthCheck) Match(e *Entry) bool { return !e.HealthCheck }

// Traceable passes what is traced (traceable_filter).
type Traceable struct{}

// Match implements Filter.
func (Traceable) Match(e *Entry) bool { return e.Traceable }

// HeaderMatcher matches request headers; package match has one.
type HeaderMatcher interface{ Match(m *header.Map) bool }

// Header passes requests whose headers match (header_filter).
type Header struct{ Matcher HeaderMatcher }

// Match implements Filter. What has no headers does not match.
func (f Header) Match(e *Entry) bool { return e.Request != nil && f.Matcher.Match(e.Request) }

// ResponseFlag passes entries with one of the flags, or with any if there are none
// (response_flag_filter).
type ResponseFlag struct{ Flags meta.Flag }

// Match implements Filter.
func (f ResponseFlag) Match(e *Entry) bool {
	flags := e.stream().Flags
	if f.Flags == 0 {
		return flags != 0
	}
	return flags&f.Flags != 0
}

// GRPCStatus passes gRPC calls by status (grpc_status_filter).
type GRPCStatus struct {
	Statuses uint32 // bit n for status n
	Exclude  bool   // passes the others
}

// Match implements Filter. What is not gRPC counts as status 2, unknown.
func (f GRPCStatus) Match(e *Entry) bool {
	code, ok := grpcCode(e)
	if !ok || code > 31 {
		code = 2
	}
	return (f.Statuses>>uint(code)&1 != 0) != f.Exclude
}

// LogType passes entries by their type (log_type_filter).
type LogType struct {
	Types   uint32 // bit n for Type n
	Exclude bool   // passes the others
}

// Match implements Filter.
func (f LogType) Match(e *Entry) bool { return (f.Types>>e.Type&1 != 0) != f.Exclude }

// Fraction passes a share of all entries (runtime_filter). Requests are chosen by
// their x-request-id, so that every proxy on the way chooses the same.
type Fraction struct {
	Numerator, Denominator uint32
	Independent            bool // by chance instead (use_independent_randomness)
}

// Match implements Filter.
func (f Fraction) Match(e *Entry) bool {
	if f.Numerator >= f.Denominator {
		return true
	}
	if f.Numerator == 0 {
		return false
	}
	id := e.id()
	if f.Independent || id == "" {
		return rand.Uint32N(f.Denominator) < f.Numerator
	}
	return hash(id)%uint64(f.Denominator) < uint64(f.Numerator)
}

// hash is 64-bit FNV-1a without an allocation.
func hash(s string) uint64 {
	h := uint64(14695981039346656037)
	for i := range len(s) {
		h = (h ^ uint64(s[i])) * 1099511628211
	}
	return h
}

// And passes what all filters pass.
type And []Filter

// Match implements Filter.
func (f And) Match(e *Entry) bool {
	for _, one := range f {
		if !one.Match(e) {
			return false
		}
	}
	return true
}

// Or passes what any filter passes.
type Or []Filter

// Match implements Filter.
func (f Or) Match(e *Entry) bool {
	for _, one := range f {
		if one.Match(e) {
			return true
		}
	}
	return false
}

// Not passes what the filter does not.
type Not struct{ Filter Filter }

// Match implements Filter.
func (f Not) Match(e *Entry) bool { return !f.Filter.Match(e) }
