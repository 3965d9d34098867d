package route

import (
	"strings"

	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/header"
	"github.com/mecha-mesh/mecha/proxy/match"
)

// Match is the conditions of a route (RouteMatch). All that are set must hold.
type Match struct {
	Path     match.Path
	Connect  bool // connect_matcher, instead of Path: CONNECT requests only
	Headers  match.Headers
	Query    []match.Query
	Cookies  []match.Cookie
	Fraction *match.Fraction // runtime_fraction
	GRPC     bool            // grpc
}

// matches tests a request whose path, with and without its query, is given.
func (m *Match) matches(s *filter.Stream, full, path string) bool {
	req := &s.Request
	switch {
	case m.Connect:
		if req.Value(header.Method) != "CONNECT" {
			return false
		}
	case full == "" || !m.Path.Match(path):
		return false
	}
	if m.Fraction != nil && !m.Fraction.Match(s.Random()) {
		return false
	}
	if m.GRPC && !isGRPC(req.Value(header.ContentType)) {
		return false
	}
	if !m.Headers.Match(req) {
		return false
	}
	for i := range m.Query {
		if !m.Query[i].Match(full) {
			return false
		}
	}
	for i := range m.Cookies {
		if !m.Cookies[i].Match(req) {
			return false
		}
	}
	return true
}

// isGRPC reports whether a content type is gRPC's.
func isGRPC(contentType string) bool {
	rest, ok := strings.CutPrefix(contentType, "application/grpc")
	return ok && (rest == "" || rest[0] == '+')
}
