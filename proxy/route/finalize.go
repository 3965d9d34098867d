package route

import (
	"strconv"

	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/header"
	"github.com/mecha-mesh/mecha/proxy/match"
)

// FinalizeRequest makes of the request head what upstream is to see: first the header
// mutations of all levels, then host and path. It is called once for each request.
// With note the host and path of before stay in x-envoy-original-host and -path.
func (r *Route) FinalizeRequest(s *filter.Stream, note bool) error {
	for _, h := range r.RequestMutations {
		h.Apply(&s.Request, s)
	}
	a, m := r.Forward, &s.Request
	if a.WeightedHost != "" {
		m.SetID(header.Authority, a.WeightedHost)
	}
	switch {
	case a.HostRewrite != "":
		r.RewriteHost(s, a.HostRewrite, note)
	case a.HostRewriteHeader != "":
		if v := m.Get(a.HostRewriteHeader); v != "" {
			r.RewriteHost(s, v, note)
		}
	case a.HostRewritePath != nil:
		path := match.WithoutQuery(m.Value(header.Path))
		if host := m.Format(func(dst []byte) []byte { return a.HostRewritePath.Append(dst, path) }); host != "" {
			r.RewriteHost(s, host, note)
		}
	case a.HostFormat != nil:
		if host := m.Format(func(dst []byte) []byte { return a.HostFormat.Append(dst, s.LogEntry()) }); host != "" {
			r.RewriteHost(s, host, note)
		}
	}
	r.rewritePath(s, note)
	return nil
}

// FinalizeResponse applies the response mutations of all levels. Values see the status
// code that upstream sent.
func (r *Route) FinalizeResponse(s *filter.Stream) error {
	if len(r.ResponseMutations) == 0 {
		return nil
	}
	before := s.Meta.Code
	s.Meta.Code = status(s.Response.Value(header.Status))
	defer func() { s.Meta.Code = before }()
	for _, h := range r.ResponseMutations {
		h.Apply(&s.Response, s)
	}
	return nil
}

// RewriteHost sets the host that upstream sees, and notes the one before where that is
// asked for. host is lent as long as the request head is.
func (r *Route) RewriteHost(s *filter.Stream, host string, note bool) {
	m := &s.Request
	old := m.Value(header.Authority)
	if r.Forward.AppendXFH {
		appendForwardedHost(m, old)
	}
	if note && old != "" {
		m.SetID(header.XEnvoyOriginalHost, old)
	}
	m.SetID(header.Authority, host)
}

// appendForwardedHost adds host to x-forwarded-host unless it is the last one there.
func appendForwardedHost(m *header.Map, host string) {
	old := m.Value(header.XForwardedHost)
	switch {
	case host == "":
	case old == "":
		m.SetID(header.XForwardedHost, host)
	case old != host && !(len(old) > len(host) && old[len(old)-len(host):] == host && old[len(old)-len(host)-1] == ','):
		m.SetID(header.XForwardedHost, m.Concat(old, ",", host))
	}
}

// rewritePath replaces the path, and keeps the one before in x-envoy-original-path.
func (r *Route) rewritePath(s *filter.Stream, note bool) {
	a, m := r.Forward, &s.Request
	if !a.rewritesPath() || !m.Has(header.Path) {
		return
	}
	full := m.Value(header.Path)
	path := match.WithoutQuery(full)
	fresh := r.newPath(s, path, full[len(path):])
	if fresh == "" {
		return
	}
	if note {
		m.SetID(header.XEnvoyOriginalPath, full)
	}
	m.SetID(header.Path, fresh)
}

func (a *ForwardAction) rewritesPath() bool {
	return a.PrefixRewrite != "" || a.RegexRewrite != nil || a.TemplateRewrite != nil || a.PathFormat != nil
}

// newPath is what becomes of a path whose query is rest; "" leaves it as it is.
func (r *Route) newPath(s *filter.Stream, path, rest string) string {
	a, m := r.Forward, &s.Request
	switch {
	case a.RegexRewrite != nil:
		return m.Format(func(dst []byte) []byte { return append(a.RegexRewrite.Append(dst, path), rest...) })
	case a.TemplateRewrite != nil:
		return m.Format(func(dst []byte) []byte {
			out, ok := a.TemplateRewrite.Append(dst, path)
			if !ok {
				out = append(dst, path...)
			}
			return append(out, rest...)
		})
	case a.PathFormat != nil:
		fresh := m.Format(func(dst []byte) []byte { return a.PathFormat.Append(dst, s.LogEntry()) })
		if fresh == "" {
			return ""
		}
		return m.Concat(fresh, rest)
	}
	n, ok := r.path.Covers(path)
	if !ok {
		return ""
	}
	return m.Concat(a.PrefixRewrite, path[n:], rest)
}

func status(text string) int {
	n, _ := strconv.Atoi(text) // what is no number is no status
	return n
}
