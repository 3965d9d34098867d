// Package jsontometadata is the HTTP filter json_to_metadata: it puts values of JSON bodies
// into dynamic metadata.
package jsontometadata

import (
	"github.com/mecha-mesh/mecha/proxy/buffer"
	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/header"
	"github.com/mecha-mesh/mecha/proxy/match"
	"github.com/mecha-mesh/mecha/proxy/stats"
)

// Spec describes the filter.
var Spec = filter.HTTPSpec[*Config]{
	Name:      wellKnown,
	Type:      "envoy.extensions.filters.http.json_to_metadata.v3.JsonToMetadata",
	RouteType: "envoy.extensions.filters.http.json_to_metadata.v3.JsonToMetadata",
	Parse:     parse,
	New:       newFactory,
}

// wellKnown is also the namespace of rules without one.
const wellKnown = "envoy.filters.http.json_to_metadata"

// defaultLimit is per_connection_buffer_limit_bytes of a listener that does not say.
const defaultLimit = 1 << 20

// Config is the parsed configuration, of the filter or of a route.
type Config struct{ Request, Response Rules }

// Rules are those of one direction.
type Rules struct {
	List       []Rule
	Types      []string // content types of the bodies that are read
	EmptyType  bool     // also without one
	TypesRegex *match.Regexp
}

// reads reports whether a body of that content type is looked at.
func (r *Rules) reads(contentType string) bool {
	if contentType == "" {
		return r.EmptyType
	}
	for _, t := range r.Types {
		if t == contentType {
			return true
		}
	}
	return r.TypesRegex != nil && r.TypesRegex.Match(contentType)
}

// Rule is about one value of a body.
type Rule struct {
	Path                    []string // keys of nested objects
	Present, Missing, Error *Pair    // what is stored; nil: nothing
}

// Pair is where a value goes, and what it is.
type Pair struct {
	Namespace, Key string
	Fixed          any // in place of the value; nil: the value
	Convert        func(v any) (out any, ok bool)
	Preserve       bool // not where there is a value already
}

// counters is json_to_metadata.*.
type counters struct {
	RequestSuccess  stats.Counter `stat:"rq.success" help:"requests whose body was read"`
	RequestType     stats.Counter `stat:"rq.mismatched_content_type" help:"requests of another content type"`
	RequestNoBody   stats.Counter `stat:"rq.no_body" help:"requests without a body"`
	RequestInvalid  stats.Counter `stat:"rq.invalid_json_body" help:"requests whose body is not JSON"`
	ResponseSuccess stats.Counter `stat:"resp.success" help:"responses whose body was read"`
	ResponseType    stats.Counter `stat:"resp.mismatched_content_type" help:"responses of another content type"`
	ResponseNoBody  stats.Counter `stat:"resp.no_body" help:"responses without a body"`
	ResponseInvalid stats.Counter `stat:"resp.invalid_json_body" help:"responses whose body is not JSON"`
}

// direction is what is counted of requests or of responses.
type direction struct{ success, contentType, noBody, invalid *stats.Counter }

// shared is what all streams of one chain have in common.
type shared struct {
	*Config
	slot              filter.Slot
	limit             int
	request, response direction
}

func newFactory(c *Config, env filter.Env) (func() filter.HTTP, error) {
	n, release := stats.SharedAt[counters](env.Stats, stats.Label{Value: "json_to_metadata"})
	env.OnRetire(release)
	sh := &shared{
		Config: c, slot: env.Slot, limit: env.BufferLimit,
		request:  direction{&n.RequestSuccess, &n.RequestType, &n.RequestNoBody, &n.RequestInvalid},
		response: direction{&n.ResponseSuccess, &n.ResponseType, &n.ResponseNoBody, &n.ResponseInvalid},
	}
	if sh.limit == 0 {
		sh.limit = defaultLimit
	}
	return func() filter.HTTP { return &Filter{shared: sh} }, nil
}

// Filter serves one stream at a time.
type Filter struct {
	*shared
	held *buffer.Buf // of a response that is kept back: lent until its end
}

var (
	_ filter.RequestHeaders   = (*Filter)(nil)
	_ filter.ResponseHeaders  = (*Filter)(nil)
	_ filter.ResponseData     = (*Filter)(nil)
	_ filter.ResponseTrailers = (*Filter)(nil)
	_ filter.Choosy           = (*Filter)(nil)
)

// Reset implements filter.HTTP.
func (f *Filter) Reset() { f.held = nil }

// WantsResponseData implements filter.Choosy.
func (f *Filter) WantsResponseData() bool { return f.held != nil }

// OnRequestHeaders implements filter.RequestHeaders.
func (f *Filter) OnRequestHeaders(s *filter.Stream, end bool) error {
	rules := &f.config(s).Request
	if len(rules.List) == 0 {
		return nil
	}
	if !rules.reads(s.Request.Value(header.ContentType)) {
		f.request.contentType.Inc()
		rules.failed(s)
		return nil
	}
	if end {
		rules.read(s, nil, &f.request)
		return nil
	}
	body, err := s.Engine.BufferRequest(f.limit)
	if err != nil {
		return err
	}
	rules.read(s, body.Bytes(), &f.request)
	return nil
}

// OnResponseHeaders implements filter.ResponseHeaders.
func (f *Filter) OnResponseHeaders(s *filter.Stream, end bool) error {
	rules := &f.config(s).Response
	if len(rules.List) == 0 {
		return nil
	}
	if !rules.reads(s.Response.Value(header.ContentType)) {
		f.response.contentType.Inc()
		rules.failed(s)
		return nil
	}
	if end {
		rules.read(s, nil, &f.response)
		return nil
	}
	f.held = s.Engine.HoldResponse()
	return nil
}

// OnResponseData implements filter.ResponseData.
func (f *Filter) OnResponseData(s *filter.Stream, b *buffer.Buf, end bool) error {
	if f.held == nil || !end {
		return nil
	}
	f.held.MoveAll(b)
	f.finish(s)
	return nil
}

// OnResponseTrailers implements filter.ResponseTrailers.
func (f *Filter) OnResponseTrailers(s *filter.Stream) error {
	if f.held != nil {
		f.finish(s)
	}
	return nil
}

func (f *Filter) finish(s *filter.Stream) {
	f.config(s).Response.read(s, f.held.Bytes(), &f.response)
	f.held = nil
}

func (f *Filter) config(s *filter.Stream) *Config {
	if own, ok := filter.Override[*Config](s, f.slot); ok {
		return own
	}
	return f.Config
}
