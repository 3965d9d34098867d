package route

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/header"
	"github.com/mecha-mesh/mecha/proxy/match"
	"github.com/mecha-mesh/mecha/proxy/runtime"
)

// Match is the conditions of a route (RouteMatch). All that are set must hold.
type Match struct {
	Path    match.Path
	Connect bool        // connect_matcher, instead of Path: CONNECT and CONNECT-UDP requests only
	More    *Conditions // nil: the path is all that counts, as on most routes
}

// Conditions are those that are not about the path.
type Conditions struct {
	GRPC     bool // grpc
	Headers  match.Headers
	Query    []match.Query
	Cookies  []match.Cookie
	Fraction *runtime.FractionValue // runtime_fraction
	TLS      *TLS                   // tls_context
	Metadata []match.Metadata
	State    []FilterState
}

// TLS asks for the certificate of the client (TlsContextMatchOptions); nil does not ask.
type TLS struct{ Presented, Validated *bool }

// FilterState matches an object that filters left (FilterStateMatcher).
type FilterState struct {
	Key    string
	Text   match.String // what the object says of itself
	Ranges match.CIDRs  // instead of Text: the object is an address
	Invert bool         // of Ranges
}

// Predicate names a condition of a Match.
type Predicate struct {
	Kind  PredicateKind
	Index int // of lists: which
}

// PredicateKind is the field of RouteMatch that a Predicate is in.
type PredicateKind uint8

// The kinds, in the order in which they are tested.
const (
	Matched PredicateKind = iota // no condition failed
	OnPath
	OnFraction
	OnGRPC
	OnHeader
	OnQuery
	OnCookie
	OnTLS
	OnMetadata
	OnFilterState
)

var predicateNames = [...]string{
	"", "path", "runtime_fraction", "grpc", "headers", "query_parameters", "cookies", "tls_context", "dynamic_metadata", "filter_state",
}

// String returns the path of the field: "headers[1]".
func (p Predicate) String() string {
	switch p.Kind {
	case OnHeader, OnQuery, OnCookie, OnMetadata, OnFilterState:
		return fmt.Sprintf("%s[%d]", predicateNames[p.Kind], p.Index)
	}
	return predicateNames[p.Kind]
}

// Holds reports whether a request meets all conditions: for what is no route.
func (m *Match) Holds(s *filter.Stream) bool {
	t := target{full: s.Request.Value(header.Path)}
	t.raw = t.full
	if i := strings.IndexAny(t.raw, "?#"); i >= 0 {
		t.raw = t.raw[:i]
	}
	t.path = t.raw
	return m.failed(s, &t, false).Kind == Matched
}

// target is what of a request the conditions are about that is worked out once.
type target struct {
	full string // path with query, "" if there is none
	raw  string // path without query, as templates see it
	path string // what other path conditions see: it may be without parameters
}

func (t *target) seenBy(p *match.Path) string {
	if p.Template() != nil {
		return t.raw
	}
	return t.path
}

// failed returns the first condition that a request does not meet. With proven the path
// is known to match.
func (m *Match) failed(s *filter.Stream, t *target, proven bool) Predicate {
	switch {
	case m.Connect:
		if s.Request.Value(header.Method) != "CONNECT" && !filter.AsksUDP(&s.Request) {
			return Predicate{Kind: OnPath}
		}
	case t.full == "" || !proven && !m.Path.Match(t.seenBy(&m.Path)):
		return Predicate{Kind: OnPath}
	}
	if m.More == nil {
		return Predicate{}
	}
	return m.More.failed(s, t)
}

func (m *Conditions) failed(s *filter.Stream, t *target) Predicate {
	req := &s.Request
	if m.Fraction != nil && !m.Fraction.Match(s.Random()) {
		return Predicate{Kind: OnFraction}
	}
	if m.GRPC && !isGRPC(req.Value(header.ContentType)) {
		return Predicate{Kind: OnGRPC}
	}
	for i := range m.Headers {
		if !m.Headers[i].Match(req) {
			return Predicate{OnHeader, i}
		}
	}
	for i := range m.Query {
		if !m.Query[i].Match(t.full) {
			return Predicate{OnQuery, i}
		}
	}
	for i := range m.Cookies {
		if !m.Cookies[i].Match(req) {
			return Predicate{OnCookie, i}
		}
	}
	return m.failedState(s)
}

// failedState is failed for what is not in the request.
func (m *Conditions) failedState(s *filter.Stream) Predicate {
	if m.TLS != nil && !m.TLS.match(s) {
		return Predicate{Kind: OnTLS}
	}
	for i := range m.Metadata {
		if !m.Metadata[i].Match(&s.Metadata) {
			return Predicate{OnMetadata, i}
		}
	}
	for i := range m.State {
		if !m.State[i].match(s) {
			return Predicate{OnFilterState, i}
		}
	}
	return Predicate{}
}

func (t *TLS) match(s *filter.Stream) bool {
	presented, validated := false, false
	if s.Conn != nil {
		presented, validated = s.Conn.PeerPresented, s.Conn.PeerValidated
	}
	return (t.Presented == nil || *t.Presented == presented) && (t.Validated == nil || *t.Validated == validated)
}

func (f *FilterState) match(s *filter.Stream) bool {
	v := s.FilterState(f.Key)
	if f.Ranges != nil {
		a, ok := stateAddr(v)
		return ok && f.Ranges.Match(a) != f.Invert
	}
	text, ok := filter.StateText(v)
	return ok && f.Text.Match(text)
}

// stateAddr is the address that an object of the filter state is.
func stateAddr(v any) (a netip.Addr, ok bool) {
	switch v := v.(type) {
	case netip.Addr:
		return v, true
	case interface{ Addr() netip.Addr }:
		return v.Addr(), true
	}
	return a, false
}

// isGRPC reports whether a content type is gRPC's.
func isGRPC(contentType string) bool {
	rest, ok := strings.CutPrefix(contentType, "application/grpc")
	return ok && (rest == "" || rest[0] == '+')
}
