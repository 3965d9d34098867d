package extauthz

import (
	"strings"
	"time"

	"github.com/mecha-mesh/mecha/proxy/codec"
	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/header"
)

// verdict is what has been decided.
type verdict uint8

const (
	failed verdict = iota // nothing: the zero value lets nobody through
	allowed
	denied
)

// decision is what a service says about a request, in memory of its own.
type decision struct {
	verdict verdict
	code    int    // of the reply, if it is not let through; 0: the usual one
	body    string // of the reply
	reply   []mutation

	request  []mutation
	remove   []string
	response []mutation
	setQuery []param
	cutQuery []string
	metadata map[string]any
	invalid  bool // it asks for what cannot be written
	asked    time.Time
}

type param struct{ name, value string }

// action is what to do where a field is there, or not (HeaderAppendAction).
type action uint8

// The actions, the first four in the order of the enum.
const (
	appendOrAdd action = iota
	addIfAbsent
	overwriteOrAdd
	overwriteIfPresent
	joinIfPresent // append: true: after a comma, and only to what is there
)

// mutation changes one field.
type mutation struct {
	name, value string // lower case
	action      action
}

// valid reports whether a field can be written as it is. Which fields there are, the
// service may decide.
func (m *mutation) valid() bool {
	return codec.IsFieldValue(m.value) && codec.IsToken(strings.TrimPrefix(m.name, ":"))
}

// validQuery reports whether a part of a query can be written as it is.
func validQuery(s string) bool {
	for i := range len(s) {
		if c := s[i]; c <= ' ' || c >= 0x7f || c == '#' {
			return false
		}
	}
	return true
}

func (m *mutation) apply(h *header.Map) {
	old, there := h.Find(m.name)
	switch m.action {
	case appendOrAdd:
		h.Add(m.name, m.value)
	case addIfAbsent:
		if !there {
			h.Add(m.name, m.value)
		}
	case overwriteOrAdd:
		h.Set(m.name, m.value)
	case overwriteIfPresent:
		if there {
			h.Set(m.name, m.value)
		}
	case joinIfPresent:
		if there {
			h.Set(m.name, h.Concat(old, ",", m.value))
		}
	}
}

// obey does what was decided.
func (f *Filter) obey(s *filter.Stream, d *decision) error {
	f.note(s, d)
	if d.invalid {
		f.counters.Invalid.Inc()
		return &replyInvalid
	}
	target := s.Target(f.env.Clusters)
	own := f.countersOf(target)
	switch d.verdict {
	case allowed:
		f.counters.OK.Inc()
		own.OK.Inc()
		s.Decide("was told by the service to allow it", "")
		f.change(s, d)
		return nil
	case denied:
		f.counters.Denied.Inc()
		own.Denied.Inc()
		s.Decide("was told by the service to deny it", "")
		r := f.deny(d)
		f.countDenial(target, r.Code)
		return r
	}
	f.counters.Error.Inc()
	own.Error.Inc()
	if !f.FailureAllow {
		return f.refuse(d)
	}
	f.counters.FailureAllowed.Inc()
	s.Decide("allows it without an answer (failure_mode_allow)", "")
	own.FailureAllowed.Inc()
	if f.FailureHeader {
		s.Request.Add("x-envoy-auth-failure-mode-allowed", "true")
	}
	return nil
}

// replyInvalid is the answer where a service asks for what cannot be done.
var replyInvalid = filter.Reply{Code: 500, Details: "ext_authz_invalid", Flags: flag}

// note puts what the service wants to be known into dynamic metadata.
func (f *Filter) note(s *filter.Stream, d *decision) {
	if len(d.metadata) == 0 {
		return
	}
	if f.NoMetadata {
		f.counters.Ignored.Inc()
		return
	}
	for k, v := range d.metadata {
		s.Metadata.Set(namespace, k, v)
	}
	if d.verdict == allowed {
		s.Metadata.Set(namespace, "ext_authz_duration", float64(time.Since(d.asked).Milliseconds()))
	}
}

// change makes the request what the service wants it to be.
func (f *Filter) change(s *filter.Stream, d *decision) {
	m := &s.Request
	for i := range d.request {
		d.request[i].apply(m)
	}
	for _, name := range d.remove {
		if name != "" && name[0] != ':' && name != "host" {
			m.Del(name)
		}
	}
	f.response = d.response
	if len(d.setQuery)+len(d.cutQuery) > 0 {
		m.SetID(header.Path, changeQuery(m.Value(header.Path), d.setQuery, d.cutQuery))
	}
	if f.ClearRoute && f.reroutes(d) {
		s.Engine.RefreshRoute()
	}
}

// reroutes reports whether a decision changes what routes may depend on.
func (f *Filter) reroutes(d *decision) bool {
	if len(d.setQuery)+len(d.cutQuery) > 0 {
		return true
	}
	if len(f.ClearRouteHeaders) == 0 {
		return len(d.request)+len(d.remove) > 0
	}
	for _, name := range f.ClearRouteHeaders {
		for i := range d.request {
			if d.request[i].name == name {
				return true
			}
		}
		for _, gone := range d.remove {
			if gone == name {
				return true
			}
		}
	}
	return false
}

// deny answers a request that was denied.
func (f *Filter) deny(d *decision) *filter.Reply {
	r := &filter.Reply{Code: d.code, Body: d.body, Details: "ext_authz_denied", Flags: flag}
	if r.Code == 0 {
		r.Code = 403
	}
	if f.MaxDeniedBody > 0 && len(r.Body) > f.MaxDeniedBody {
		r.Body = r.Body[:f.MaxDeniedBody]
	}
	r.Modify = d.dress
	return r
}

// refuse answers a request about which nothing was decided. d may be nil.
func (f *Filter) refuse(d *decision) *filter.Reply {
	r := &filter.Reply{Code: f.StatusOnError, Details: "ext_authz_error", Flags: flag}
	if d != nil {
		r.Body = d.body
		if d.code != 0 {
			r.Code = d.code
		}
		r.Modify = d.dress
	}
	return r
}

// dress puts the service's fields into the head of its reply. They replace those that are
// there, but one may come several times.
func (d *decision) dress(s *filter.Stream) {
	m := &s.Response
	for i := range d.reply {
		m.Del(d.reply[i].name)
	}
	for i := range d.reply {
		m.Add(d.reply[i].name, d.reply[i].value)
	}
}

// changeQuery sets and removes parameters of the query of a path. What stays keeps its
// place and spelling.
func changeQuery(path string, set []param, cut []string) string {
	path, query, _ := strings.Cut(path, "?")
	var out []string
	done := make([]bool, len(set))
next:
	for query != "" {
		var item string
		item, query, _ = strings.Cut(query, "&")
		name, _, _ := strings.Cut(item, "=")
		for _, c := range cut {
			if c == name {
				continue next
			}
		}
		for i, p := range set {
			if p.name == name {
				if !done[i] {
					out = append(out, p.name+"="+p.value)
				}
				done[i] = true
				continue next
			}
		}
		out = append(out, item)
	}
	for i, p := range set {
		if !done[i] {
			out = append(out, p.name+"="+p.value)
		}
	}
	if len(out) == 0 {
		return path
	}
	return path + "?" + strings.Join(out, "&")
}
