// Package extproc is the HTTP filter ext_proc: an external service sees the parts of a
// request and its response as they pass, on one gRPC stream
// (envoy.service.ext_proc.v3.ExternalProcessor), and may change them or answer itself.
//
// The conversation with the service is in conversation.go, the messages are in
// config_message.go, what the hooks do in request.go and response.go.
package extproc

import (
	"sync/atomic"
	"time"

	"github.com/mecha-mesh/mecha/proxy/buffer"
	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/filter/call"
	"github.com/mecha-mesh/mecha/proxy/match"
	"github.com/mecha-mesh/mecha/proxy/mutate"
)

// Spec describes the filter.
var Spec = filter.HTTPSpec[*Config]{
	Name:       "envoy.filters.http.ext_proc",
	Type:       "envoy.extensions.filters.http.ext_proc.v3.ExternalProcessor",
	RouteType:  "envoy.extensions.filters.http.ext_proc.v3.ExtProcPerRoute",
	Parse:      parse,
	ParseRoute: parseRoute,
	New:        newFactory,
}

// Config is the parsed configuration. On a route only Route is set.
type Config struct {
	Service       call.GRPC
	FailureAllow  bool // failure_mode_allow
	StatusOnError int
	Mode          Mode
	StatPrefix    string

	RequestAttributes, ResponseAttributes []string
	Timeout, MaxTimeout                   time.Duration // message_timeout, max_message_timeout
	Rules                                 *mutate.Rules
	Allowed, Disallowed                   match.Strings // forward_rules; Allowed nil: all
	Forward, Receive                      []string      // metadata_options, untyped

	AllowOverride bool // allow_mode_override
	Overrides     []Mode
	NoImmediate   bool // disable_immediate_response
	Observe       bool // observability_mode
	CloseAfter    time.Duration
	Route         *Route
	Clear         clearing
}

// clearing is route_cache_action.
type clearing uint8

const (
	asAnswered clearing = iota // as the service says
	always
	never
)

// Mode is which parts of messages the service sees (ProcessingMode).
type Mode struct {
	Request, Response Side
}

// Side is Mode for one direction.
type Side struct {
	Head, Trailers bool
	Body           BodyMode
}

// BodyMode is how the service sees a body.
type BodyMode uint8

// The modes, in the order of the enum.
const (
	NoBody BodyMode = iota
	Streamed
	Buffered
	BufferedPartial
	Duplex // FULL_DUPLEX_STREAMED
)

// Route is what a level of a route table says.
type Route struct {
	Disabled     bool
	Mode         *Mode
	Service      *call.GRPC
	Metadata     []call.Metadata // grpc_initial_metadata
	FailureAllow *bool

	RequestAttributes, ResponseAttributes []string
	Forward, Receive                      *[]string
}

// chain is what all streams of one chain have in common.
type chain struct {
	*Config
	env      filter.Env
	client   *call.Client
	counters *counters
	limit    int          // most bytes of a body that is kept
	closing  atomic.Int64 // conversations that are closed later
}

func newFactory(c *Config, env filter.Env) (func() filter.HTTP, error) {
	ch := &chain{Config: c, env: env, client: call.NewClient(env.Clusters), limit: env.BufferLimit}
	if ch.limit == 0 {
		ch.limit = call.DefaultLimit
	}
	ch.counters = ch.bind()
	return func() filter.HTTP { return &Filter{chain: ch} }, nil
}

// Filter serves one stream at a time.
type Filter struct {
	*chain
	mode         Mode
	off          bool // nothing is told any more
	service      *call.GRPC
	failureAllow bool
	broken       bool // the conversation has failed
	consumed     bool // the service has pieces of a body that nobody else has
	deciding     bool // a hook of a head runs

	conversation conversation
	request      passage
	response     passage
}

// passage is how far one direction has come.
type passage struct {
	collecting bool          // pieces of the body are kept for one message
	discarding bool          // they are replaced by another body
	partial    bool          // the rest of the body is not told
	content    buffer.Buf    // what is in place of pieces that the service has
	told       bool          // attributes were told
	head       bool          // the head has gone on
	slow       bool          // pieces of a duplex response are not answered in time: nobody waits for that any more
	pause      time.Duration // before the service is asked again what it has made of a duplex request
	answers    []*answer     // that came while the other direction was waited for
}

var (
	_ filter.RequestHeaders   = (*Filter)(nil)
	_ filter.RequestData      = (*Filter)(nil)
	_ filter.RequestTrailers  = (*Filter)(nil)
	_ filter.ResponseHeaders  = (*Filter)(nil)
	_ filter.ResponseData     = (*Filter)(nil)
	_ filter.ResponseTrailers = (*Filter)(nil)
	_ filter.Choosy           = (*Filter)(nil)
	_ filter.Done             = (*Filter)(nil)
)

// Reset implements filter.HTTP.
func (f *Filter) Reset() {
	f.request.content.Release()
	f.response.content.Release()
	*f = Filter{chain: f.chain}
}

// begin finds out what a stream is to be treated like.
func (f *Filter) begin(s *filter.Stream) {
	f.mode, f.service, f.failureAllow = f.Mode, &f.Service, f.FailureAllow
	if _, ok := filter.Override[*Config](s, f.env.Slot); !ok {
		return
	}
	s.Route.Overrides(f.env.Slot, func(o any) bool {
		if c, ok := o.(*Config); ok {
			f.override(c.Route)
		}
		return true
	})
}

// Forecast implements filter.Forecaster: whether the service would be told is known, what it
// would say is not.
func (f *Filter) Forecast(s *filter.Stream) error {
	if f.begin(s); f.off || !f.mode.Request.Head {
		return nil
	}
	if f.Observe {
		s.Decide("would tell the service of cluster, and go on", f.service.Cluster)
		return nil
	}
	s.Decide("cannot tell: would ask the service of cluster", f.service.Cluster)
	return nil
}

// override applies what a level says; the most specific one comes last.
func (f *Filter) override(r *Route) {
	f.off = r.Disabled
	if r.Mode != nil {
		f.mode = *r.Mode
	}
	if r.Service != nil {
		f.service = r.Service
	}
	if len(r.Metadata) > 0 {
		own := *f.service
		own.Metadata = append(append([]call.Metadata{}, own.Metadata...), r.Metadata...)
		f.service = &own
	}
	if r.FailureAllow != nil {
		f.failureAllow = *r.FailureAllow
	}
}

// WantsResponseData implements filter.Choosy.
func (f *Filter) WantsResponseData() bool {
	return !f.off && (f.mode.Response.Body != NoBody || f.response.discarding)
}

// OnDone implements filter.Done.
func (f *Filter) OnDone(*filter.Stream) { f.hangUp() }
