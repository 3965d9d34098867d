package customresponse

import (
	"github.com/mecha-mesh/mecha/proxy/accesslog"
	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/mutate"
)

// local answers here (LocalResponsePolicy).
type local struct {
	body        string
	format      *accesslog.Format // nil: body as it is
	code        int               // 0: that of the response
	headers     *mutate.Headers
	details     string // response_code_details
	keepDetails bool   // preserve_response_code_details
}

func (p *local) apply(_ *Filter, s *filter.Stream) error {
	s.Decide("answers itself by", "local_response_policy")
	r := &filter.Reply{Code: p.code, Body: p.body, Details: p.details}
	if r.Code == 0 {
		r.Code = s.Response.StatusCode()
	}
	if !p.keepDetails {
		s.Meta.Details, s.Meta.Cleared = "", p.details == ""
	}
	if p.format != nil {
		e := s.LogEntry()
		e.LocalReplyBody = p.body
		r.Body = string(p.format.Append(nil, e))
	}
	if !p.headers.Empty() {
		r.Modify = func(s *filter.Stream) { p.headers.Apply(&s.Response, s) }
	}
	return r
}
