package router

import (
	"slices"

	"github.com/mecha-mesh/mecha/proxy/codec"
	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/header"
	"github.com/mecha-mesh/mecha/proxy/route"
)

// redirectState is where a stream keeps its *route.Redirects.
const redirectState = "mecha.internal_redirects"

// errRedirect ends an attempt whose response is a redirect that is followed here.
var errRedirect = &filter.Error{Source: filter.Internal, Text: "internal_redirect"}

// follow makes the request that a redirect asks for, if the route says that it is to be
// made here. It reports whether it did; if not, the request is as it was.
func (f *Filter) follow(s *filter.Stream, code int) bool {
	p := f.action.Redirect
	if p == nil || !slices.Contains(p.Codes, code) || opens(s) {
		return false
	}
	st := f.cluster.Stats()
	if !s.Response.Has(header.Location) || !f.complete(s) || !f.redirect(s, p, code) {
		st.UpstreamInternalRedirectFailedTotal.Inc()
		return false
	}
	st.UpstreamInternalRedirectSucceededTotal.Inc()
	return true
}

// opens reports whether the request asks for a tunnel. It has no end that could be
// waited for.
func opens(s *filter.Stream) bool {
	return s.Request.Has(header.Upgrade) || s.Request.Value(header.Method) == "CONNECT"
}

// complete reports whether the request has come to its end and is still there.
func (f *Filter) complete(s *filter.Stream) bool {
	if s.Engine.RequestBody() != codec.End || f.pump.running && !f.pump.ended.Load() {
		return false
	}
	return s.Meta.UpstreamSent == 0 || f.keep && !f.replay.Overflow
}

func (f *Filter) redirect(s *filter.Stream, p *route.InternalRedirect, code int) bool {
	k := f.sh.counters
	to, ok := route.ParseLocation(s.Response.Value(header.Location))
	if !ok {
		k.RedirectLocation.Inc()
		return false
	}
	fromHTTP := s.Request.Value(header.Scheme) == "http" || s.Conn.TransportProtocol != "tls"
	if !p.CrossScheme && fromHTTP != (to.Scheme == "http") {
		k.RedirectScheme.Inc()
		return false
	}
	done, _ := s.State.Get(redirectState).(*route.Redirects)
	if done == nil {
		done = &route.Redirects{}
		s.State.Set(redirectState, done)
	}
	if done.N >= p.Max {
		k.RedirectTooMany.Inc()
		return false
	}
	var before header.Map
	s.Request.CopyTo(&before, true)
	was := s.Route
	p.CopyHeaders(&s.Request, &s.Response)
	m := &s.Request
	m.SetID(header.Scheme, m.Concat(to.Scheme))
	m.SetID(header.Authority, m.Concat(to.Host))
	m.SetID(header.Path, m.Concat(to.Path))
	s.Engine.RefreshRoute()
	why := p.Refuses(s, was.Name(), fromHTTP, to, done)
	switch why {
	case "no_route":
		k.RedirectNoRoute.Inc()
	case "predicate":
		k.RedirectPredicate.Inc()
	}
	if why != "" {
		m.Reset()
		before.CopyTo(m, true)
		s.Engine.RefreshRoute()
		return false
	}
	if method := m.Value(header.Method); code == 303 && method != "GET" && method != "HEAD" {
		m.SetID(header.Method, "GET")
		m.DelID(header.ContentLength)
		f.replay.Buf.Release()
	}
	done.N++
	scheme := "https"
	if fromHTTP {
		scheme = "http"
	}
	m.Set("x-envoy-original-url", m.Concat(scheme, "://", before.Value(header.Authority), before.Value(header.Path)))
	return true
}
