package route

import (
	"bytes"
	"strconv"
	"strings"

	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/header"
	"github.com/mecha-mesh/mecha/proxy/match"
)

// Location is the URL that a redirect sends the client of a stream to. It does not know
// prefix_rewrite, which depends on a route. It is made in memory of the response head.
func (a *RedirectAction) Location(s *filter.Stream) string {
	return (&Route{Redirect: a}).location(s)
}

// location is where a redirect sends the client; without a redirect, where the
// request went.
func (r *Route) location(s *filter.Stream) string {
	a, m := r.Redirect, &s.Request
	if a == nil {
		a = &RedirectAction{}
	}
	return s.Response.Format(func(dst []byte) []byte {
		scheme := a.Scheme
		if scheme == "" {
			scheme = m.Value(header.Scheme)
		}
		dst = append(append(dst, scheme...), "://"...)
		if a.Host != "" {
			dst = append(dst, a.Host...)
		} else {
			dst = append(dst, redirectHost(s, scheme, a.Port != 0)...)
		}
		if a.Port != 0 {
			dst = strconv.AppendUint(append(dst, ':'), uint64(a.Port), 10)
		}
		return r.appendRedirectPath(dst, a, s)
	})
}

// redirectHost is the request's host, without its port if there is another one, or
// if it was the default port of a scheme that changes.
func redirectHost(s *filter.Stream, scheme string, newPort bool) string {
	host := s.Request.Value(header.Authority)
	i := portStart(host)
	if i < 0 {
		return host
	}
	was := s.Request.Value(header.XForwardedProto)
	if newPort || scheme != was && (was == "https" && host[i:] == ":443" || was == "http" && host[i:] == ":80") {
		return host[:i]
	}
	return host
}

// portStart is the position of the colon before a port, -1 if there is none.
func portStart(host string) int {
	i := strings.LastIndexByte(host, ':')
	if i >= 0 && strings.HasPrefix(host, "[") && host[i-1] != ']' {
		return -1
	}
	return i
}

func (r *Route) appendRedirectPath(dst []byte, a *RedirectAction, s *filter.Stream) []byte {
	full := s.Request.Value(header.Path)
	path := match.WithoutQuery(full)
	rest := full[len(path):] // query and fragment
	if a.StripQuery {
		rest = ""
	}
	switch {
	case a.Path != "":
		dst = append(dst, a.Path...)
		if strings.Contains(a.Path, "?") {
			return dst // its own query wins
		}
	case a.RegexRewrite != nil:
		dst = a.RegexRewrite.Append(dst, path)
	case a.Prefix != "":
		if n, ok := r.path.Covers(path); ok {
			dst, path = append(dst, a.Prefix...), path[n:]
		}
		dst = append(dst, path...)
	case a.PathFormat != nil:
		start := len(dst)
		if dst = a.PathFormat.Append(dst, s.LogEntry()); len(dst) == start {
			dst = append(dst, path...)
		} else if bytes.IndexByte(dst[start:], '?') >= 0 {
			return dst // its own query wins
		}
	default:
		dst = append(dst, path...)
	}
	return append(dst, rest...)
}
