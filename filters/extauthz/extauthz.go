// Package extauthz is the filter ext_authz: an external service decides, over HTTP or gRPC,
// whether a request goes on, and may change it, or whether a connection does. Without an answer there is no way
// through, unless failure_mode_allow says so.
//
// How a request is asked for is in httpservice.go and config_check.go, what a decision does
// to it in decision.go. How calls travel is in package call.
package extauthz

import (
	"github.com/mecha-mesh/mecha/proxy/buffer"
	"github.com/mecha-mesh/mecha/proxy/codec"
	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/filter/call"
	"github.com/mecha-mesh/mecha/proxy/header"
	"github.com/mecha-mesh/mecha/proxy/match"
	"github.com/mecha-mesh/mecha/proxy/meta"
	"github.com/mecha-mesh/mecha/proxy/mutate"
	"github.com/mecha-mesh/mecha/proxy/runtime"
)

// Spec describes the filter.
var Spec = filter.HTTPSpec[*Config]{
	Name:       "envoy.filters.http.ext_authz",
	Type:       "envoy.extensions.filters.http.ext_authz.v3.ExtAuthz",
	RouteType:  "envoy.extensions.filters.http.ext_authz.v3.ExtAuthzPerRoute",
	Parse:      parse,
	ParseRoute: parseRoute,
	New:        newFactory,
}

// namespace is that of the dynamic metadata of decisions.
const namespace = "envoy.filters.http.ext_authz"

// Config says whom to ask, what to tell, and what becomes of the answer. On a route only
// Route is set.
type Config struct {
	Service       service
	Body          *Body
	FailureAllow  bool // failure_mode_allow
	FailureHeader bool // failure_mode_allow_header_add

	ClearRoute        bool // clear_route_cache
	ClearRouteHeaders []string
	StatusOnError     int
	MaxDeniedBody     int  // max_denied_response_body_bytes, 0: no limit
	NoClusterCodes    bool // charge_cluster_response_stats is false

	Enabled         runtime.FractionSetting
	EnabledMetadata *match.Metadata
	DenyAtDisable   runtime.FlagSetting

	StatPrefix        string
	Allowed           match.Strings // of the request; nil: all over gRPC, some over HTTP
	Disallowed        match.Strings
	MetadataContext   []string
	RouteContext      []string
	IncludePeerCert   bool
	IncludeTLSSession bool
	RawHeaders        bool // encode_raw_headers
	NoMetadata        bool // enable_dynamic_metadata_ingestion is false

	Route *Route
}

// service is whom to ask: one of both is set.
type service struct {
	http *HTTPService
	grpc *call.GRPC
}

// HTTPService is an authorization service that speaks HTTP.
type HTTPService struct {
	call.HTTP
	PathPrefix, PathOverride string
	Retries                  *call.Retries
	Add                      *mutate.Headers // authorization_request.headers_to_add

	Upstream, UpstreamAppend  match.Strings // what of an answer goes to upstream
	Client                    match.Strings // to the client on denial; nil: all
	ClientSuccess, ToMetadata match.Strings
}

// Body says how much of a request body is told (with_request_body).
type Body struct {
	Max     int
	Bytes   bool // pack_as_bytes
	Partial bool // allow_partial_message: the beginning of a longer one is told
}

// Route is what a level of a route table says.
type Route struct {
	Disabled   bool
	Extensions map[string]string // context_extensions
	NoBody     bool              // disable_request_body_buffering
	Body       *Body
	Service    service // in place of the filter's
}

// shared is what all streams of one chain have in common.
type shared struct {
	*Config
	env      filter.Env
	client   *call.Client
	counters *counters
	enabled  runtime.FractionValue
	denyOff  runtime.FlagValue
}

func newFactory(c *Config, env filter.Env) (func() filter.HTTP, error) {
	sh := &shared{Config: c, env: env, client: call.NewClient(env.Clusters)}
	sh.counters = sh.bind()
	sh.enabled, sh.denyOff = c.Enabled.On(env.Runtime), c.DenyAtDisable.On(env.Runtime)
	return func() filter.HTTP { return &Filter{shared: sh} }, nil
}

// Filter serves one stream at a time.
type Filter struct {
	*shared
	response []mutation // of the response head, once it comes
}

var (
	_ filter.RequestHeaders  = (*Filter)(nil)
	_ filter.ResponseHeaders = (*Filter)(nil)
)

// Reset implements filter.HTTP.
func (f *Filter) Reset() { f.response = nil }

// OnRequestHeaders implements filter.RequestHeaders.
func (f *Filter) OnRequestHeaders(s *filter.Stream, end bool) error {
	own, _ := filter.Override[*Config](s, f.env.Slot)
	if s.Route == nil || own != nil && own.Route.Disabled {
		return nil
	}
	if !f.applies(s) {
		f.counters.Disabled.Inc()
		s.Decide("is not enabled for it (filter_enabled)", "")
		if f.denyOff.Get() {
			return f.refuse(nil)
		}
		return nil
	}
	q := question{service: f.Service, body: f.Body}
	if own != nil {
		q.override(own.Route)
	}
	if q.body != nil && !end && !codec.IsUpgrade(&s.Request) {
		if err := q.read(s); err != nil {
			return err
		}
	}
	return f.ask(s, &q)
}

// Forecast implements filter.Forecaster: whether the service would be asked is known, what it
// would say is not.
func (f *Filter) Forecast(s *filter.Stream) error {
	own, _ := filter.Override[*Config](s, f.env.Slot)
	if s.Route == nil || own != nil && own.Route.Disabled {
		return nil
	}
	if !f.applies(s) {
		s.Decide("is not enabled for it (filter_enabled)", "")
		if f.denyOff.Get() {
			return f.refuse(nil)
		}
		return nil
	}
	q := question{service: f.Service}
	if own != nil {
		q.override(own.Route)
	}
	cluster := ""
	if q.service.http != nil {
		cluster = q.service.http.Cluster
	} else {
		cluster = q.service.grpc.Cluster
	}
	s.Decide("cannot tell: would ask the service of cluster", cluster)
	return nil
}

// applies reports whether the filter is on for the stream.
func (f *Filter) applies(s *filter.Stream) bool {
	if m := f.EnabledMetadata; m != nil && !m.Match(&s.Metadata) {
		return false
	}
	return f.enabled.Match(s.Random())
}

// question is what one stream asks.
type question struct {
	service service
	body    *Body // nil: none is told
	data    *buffer.Buf
	partial bool // data, as far as it is told, is not all
}

func (q *question) override(r *Route) {
	if r.Service != (service{}) {
		q.service = r.Service
	}
	if r.NoBody {
		q.body = nil
	}
	if r.Body != nil {
		q.body = r.Body
	}
}

// read waits for the body of the request.
func (q *question) read(s *filter.Stream) (err error) {
	if !q.body.Partial {
		q.data, err = s.Engine.BufferRequest(q.body.Max)
		return err
	}
	all := false
	q.data, all, err = s.Engine.BufferStart(q.body.Max)
	q.partial = err == nil && (!all || q.data.Len() > q.body.Max)
	return err
}

// ask asks, and does what the answer says.
func (f *Filter) ask(s *filter.Stream, q *question) error {
	var d *decision
	var err error
	if q.service.http != nil {
		d, err = f.askHTTP(s, q)
	} else {
		d, err = f.askGRPC(s, q)
	}
	if err != nil {
		return err // nobody waits any more
	}
	return f.obey(s, d)
}

// OnResponseHeaders implements filter.ResponseHeaders.
func (f *Filter) OnResponseHeaders(s *filter.Stream, _ bool) error {
	for i := range f.response {
		f.response[i].apply(&s.Response)
	}
	return nil
}

// flag is that of requests that are refused.
const flag = meta.UnauthorizedExternalService

// hasHeader reports whether a field is one that an authorization service over HTTP is
// always told.
func hasHeader(id header.ID) bool {
	switch id {
	case header.Method, header.Path, header.Authority, header.Authorization:
		return true
	}
	return false
}
