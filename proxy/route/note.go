package route

import (
	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/why"
)

// note tells whoever asks later what the table has decided, about the entry of a list at
// place i unless that is negative. Texts are lent as long as the request head is.
func note(s *filter.Stream, what, of string, i int, because string) {
	s.Why.Note(why.Decision{By: why.Route, What: what, Of: of, Place: i + 1, Because: because, At: s.Elapsed()})
}

// noteRejected tells which condition of a route the request does not meet.
func noteRejected(s *filter.Stream, i int, e *Entry, failed Predicate) {
	r := e.Route
	if r == nil {
		r = e.Weighted.routes[0]
	}
	note(s, "passes over", r.Name(), i, rejections[failed.Kind])
}

// rejections say of each condition that it was not met, without allocating.
var rejections = [...]string{
	OnPath: "path", OnFraction: "runtime_fraction has not chosen it", OnGRPC: "the request is not gRPC", OnHeader: "a header does not match",
	OnQuery: "a query parameter does not match", OnCookie: "a cookie does not match", OnTLS: "tls_context does not match",
	OnMetadata: "dynamic_metadata does not match", OnFilterState: "filter_state does not match",
}
