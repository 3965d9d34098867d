// Package lua is the HTTP filter lua: scripts of the configuration see requests and
// responses, change them, answer them, and ask others about them.
//
// A script runs on the goroutine of its stream and waits as the stream does. Only one that
// wants to see a body or trailers while they pass on, or the body of a response, has to let
// the stream go on in between: see run.go. How scripts are kept within limits is in package
// proxy/lua.
package lua

import (
	"fmt"

	"github.com/mecha-mesh/mecha/proxy/buffer"
	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/filter/call"
	"github.com/mecha-mesh/mecha/proxy/lua"
	"github.com/mecha-mesh/mecha/proxy/stats"
)

// Spec describes the filter.
var Spec = filter.HTTPSpec[*Config]{
	Name:       wellKnown,
	Type:       "envoy.extensions.filters.http.lua.v3.Lua",
	RouteType:  "envoy.extensions.filters.http.lua.v3.LuaPerRoute",
	Parse:      parse,
	ParseRoute: parseRoute,
	New:        newFactory,
}

const wellKnown = "envoy.filters.http.lua"

// Config is the parsed configuration. Of a route it has the fields of Route only.
type Config struct {
	Default    *script
	Named      map[string]*script
	StatPrefix string
	KeepRoute  bool           // clear_route_cache is false
	Context    map[string]any // filter_context

	Route *Route
}

// Route is what a level of a route table says.
type Route struct {
	Disabled bool
	Name     string  // one of the named scripts
	Script   *script // its own
	Context  map[string]any
}

// script is a program and what is known of it.
type script struct {
	program           *lua.Program
	request, response bool // it has such a function
	suspends          bool // it may have to let the stream go on
}

// The functions of a script.
const (
	onRequest  = "envoy_on_request"
	onResponse = "envoy_on_response"
)

// passing are the methods for which a script has to let the stream go on.
var passing = []string{"body", "bodyChunks", "trailers"}

// newScript compiles a source.
func newScript(source string) (*script, error) {
	p, err := lua.Compile(source, lua.DefaultLimits, newHost)
	if err != nil {
		return nil, err
	}
	s := &script{program: p}
	for _, name := range passing {
		s.suspends = s.suspends || p.Mentions(name)
	}
	vm, err := p.Take()
	if err != nil {
		return nil, err
	}
	s.request, s.response = vm.Function(onRequest) != nil, vm.Function(onResponse) != nil
	vm.Put()
	return s, nil
}

// counters is http.<stat_prefix>.lua.*.
type counters struct {
	Errors     stats.Counter `stat:"errors" help:"runs of scripts that have failed; the stream goes on"`
	Executions stats.Counter `stat:"executions" help:"runs of scripts"`
	Limited    stats.Counter `stat:"limited" help:"of the errors, those of runs that have met a limit of instructions, time or memory"`
}

// shared is what all streams of one chain have in common.
type shared struct {
	*Config
	*counters
	env    filter.Env
	client *call.Client
	name   string
	calls  chan struct{} // a slot for each call that nobody waits for
}

func newFactory(c *Config, env filter.Env) (func() filter.HTTP, error) {
	n, release := stats.SharedUnder[counters](env.Parent, stats.Path("lua", c.StatPrefix)...)
	env.OnRetire(release)
	sh := &shared{Config: c, counters: n, env: env, client: call.NewClient(env.Clusters), name: env.Name}
	sh.calls = make(chan struct{}, maxBackground)
	if sh.name == "" {
		sh.name = wellKnown
	}
	return func() filter.HTTP { return &Filter{shared: sh} }, nil
}

// Filter serves one stream at a time.
type Filter struct {
	*shared
	request, response run
}

var (
	_ filter.RequestHeaders   = (*Filter)(nil)
	_ filter.RequestData      = (*Filter)(nil)
	_ filter.RequestTrailers  = (*Filter)(nil)
	_ filter.ResponseHeaders  = (*Filter)(nil)
	_ filter.ResponseData     = (*Filter)(nil)
	_ filter.ResponseTrailers = (*Filter)(nil)
	_ filter.Done             = (*Filter)(nil)
	_ filter.Choosy           = (*Filter)(nil)
)

// Reset implements filter.HTTP.
func (f *Filter) Reset() {
	f.request.abandon()
	f.response.abandon()
}

// OnDone implements filter.Done.
func (f *Filter) OnDone(*filter.Stream) { f.Reset() }

// script is the one for a stream, nil for none, and its context.
func (f *Filter) script(s *filter.Stream) (*script, map[string]any) {
	own, ok := filter.Override[*Config](s, f.env.Slot)
	if !ok {
		return f.Default, f.Context
	}
	r := own.Route
	context := f.Context
	if r.Context != nil {
		context = r.Context
	}
	switch {
	case r.Disabled:
		return nil, nil
	case r.Name != "":
		return f.Named[r.Name], context
	case r.Script != nil:
		return r.Script, context
	}
	return f.Default, context
}

// OnRequestHeaders implements filter.RequestHeaders.
func (f *Filter) OnRequestHeaders(s *filter.Stream, end bool) error {
	sc, context := f.script(s)
	if sc == nil || !sc.request {
		return nil
	}
	f.request = run{shared: f.shared, s: s, script: sc, context: context, headers: &s.Request, end: end}
	return f.request.start(onRequest)
}

// OnRequestData implements filter.RequestData.
func (f *Filter) OnRequestData(_ *filter.Stream, b *buffer.Buf, end bool) error {
	return f.request.data(b, end)
}

// OnRequestTrailers implements filter.RequestTrailers.
func (f *Filter) OnRequestTrailers(s *filter.Stream) error {
	return f.request.sawTrailers(&s.RequestTrailers)
}

// OnResponseHeaders implements filter.ResponseHeaders.
func (f *Filter) OnResponseHeaders(s *filter.Stream, end bool) error {
	sc, context := f.script(s)
	if sc == nil || !sc.response {
		return nil
	}
	f.response = run{shared: f.shared, s: s, script: sc, context: context, headers: &s.Response, end: end, response: true}
	return f.response.start(onResponse)
}

// WantsResponseData implements filter.Choosy.
func (f *Filter) WantsResponseData() bool { return f.response.waits != nothing }

// OnResponseData implements filter.ResponseData.
func (f *Filter) OnResponseData(_ *filter.Stream, b *buffer.Buf, end bool) error {
	return f.response.data(b, end)
}

// OnResponseTrailers implements filter.ResponseTrailers.
func (f *Filter) OnResponseTrailers(s *filter.Stream) error {
	return f.response.sawTrailers(&s.ResponseTrailers)
}

// failed notes that a run has failed. The stream goes on, as in Envoy.
func (sh *shared) failed(err error) {
	sh.Errors.Inc()
	if lua.Limited(err) {
		sh.Limited.Inc()
	}
	sh.env.Log.Error(fmt.Sprintf("script log: %v", err))
}
