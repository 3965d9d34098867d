package route

import (
	"slices"
	"strings"

	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/header"
)

// InternalRedirect says which redirects of upstream are followed here (InternalRedirectPolicy).
type InternalRedirect struct {
	Max         int      // redirects of one request, 1 unless set
	Codes       []int    // 302 unless set
	CrossScheme bool     // allow_cross_scheme_redirect
	Copy        []string // response_headers_to_copy, lower case
	Previous    bool     // previous_routes: not twice from the same route to the same one
	Safe        bool     // safe_cross_scheme: not from http to https
	Allowed     []string // allow_listed_routes: to these only; nil: to all
}

// Redirects is what is remembered of a request that has been redirected.
type Redirects struct {
	N     int
	Taken []string // names of routes, from and to, for each redirect
}

// Location is a redirect's target.
type Location struct {
	Scheme, Host, Path string // Path with its query
}

// ParseLocation reads the absolute URL of a Location field.
func ParseLocation(v string) (l Location, ok bool) {
	scheme, rest, ok := strings.Cut(v, "://")
	if scheme = strings.ToLower(scheme); !ok || scheme != "http" && scheme != "https" {
		return l, false
	}
	host := rest
	if i := strings.IndexAny(rest, "/?#"); i >= 0 {
		host, rest = rest[:i], rest[i:]
	} else {
		rest = ""
	}
	if i := strings.IndexByte(rest, '#'); i >= 0 {
		rest = rest[:i]
	}
	if host == "" || strings.ContainsAny(host, "@ \t") || strings.ContainsAny(rest, " \t") {
		return l, false
	}
	if rest == "" || rest[0] != '/' {
		rest = "/" + rest
	}
	return Location{scheme, host, rest}, true
}

// Refuses says, in the last word of the counter passthrough_internal_redirect_..., why a
// redirect must not be followed: "" if it may. s is at the target already.
func (p *InternalRedirect) Refuses(s *filter.Stream, from string, fromHTTP bool, to Location, done *Redirects) string {
	if s.Route == nil {
		return "no_route"
	}
	name := s.Route.Name()
	switch {
	case p.Previous && done.took(from, name),
		p.Allowed != nil && !slices.Contains(p.Allowed, name),
		p.Safe && fromHTTP && to.Scheme == "https":
		return "predicate"
	}
	done.Taken = append(done.Taken, strings.Clone(from), strings.Clone(name))
	return ""
}

func (r *Redirects) took(from, to string) bool {
	for i := 0; i+1 < len(r.Taken); i += 2 {
		if r.Taken[i] == from && r.Taken[i+1] == to {
			return true
		}
	}
	return false
}

// CopyHeaders makes the request headers of the list what the response says.
func (p *InternalRedirect) CopyHeaders(request, response *header.Map) {
	for _, name := range p.Copy {
		request.Del(name)
		for v := range response.Values(name) {
			request.Add(name, request.Concat(v))
		}
	}
}
