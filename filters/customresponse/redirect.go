package customresponse

import (
	"github.com/mecha-mesh/mecha/proxy/codec"
	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/header"
	"github.com/mecha-mesh/mecha/proxy/mutate"
)

// redirect fetches an answer by another way through the proxy (RedirectPolicy).
type redirect struct {
	target            target
	code              int // of the answer; 0: that of the response
	request, response *mutate.Headers
}

// target is the URI of a redirect for a stream; ok is false where it is none.
type target func(s *filter.Stream) (scheme, host, path string, ok bool)

// redirected is what is remembered of a response while an answer to put in its place is fetched.
type redirected struct {
	by   *redirect
	code int
}

func (p *redirect) apply(f *Filter, s *filter.Stream) error {
	if !f.asked || s.Engine.RequestBody() != codec.End {
		return nil
	}
	scheme, host, path, ok := p.target(s)
	if !ok {
		f.InvalidURI.Inc()
		return nil
	}
	var before header.Map
	m := &s.Request
	m.CopyTo(&before, true)
	m.SetID(header.Scheme, m.Concat(scheme))
	m.SetID(header.Authority, m.Concat(host))
	m.SetID(header.Path, m.Concat(path))
	p.request.Apply(m, s)
	s.Engine.RefreshRoute()
	if s.Route == nil {
		f.NoRoute.Inc()
		m.Reset()
		before.CopyTo(m, true)
		s.Engine.RefreshRoute()
		return nil
	}
	m.SetID(header.Method, "GET")
	m.DelID(header.ContentLength)
	m.DelID(header.TransferEncoding)
	s.State.Set(name, &redirected{p, s.Response.StatusCode()})
	return s.Engine.Restart(nil)
}

// finish makes of an answer that was fetched the one that the client gets.
func (r *redirected) finish(s *filter.Stream) {
	code := r.by.code
	if code == 0 {
		code = r.code
	}
	r.by.response.Apply(&s.Response, s)
	s.Response.SetInt(header.Status, int64(code))
}
