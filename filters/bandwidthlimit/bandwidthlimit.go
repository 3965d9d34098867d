// Package bandwidthlimit is the HTTP filter bandwidth_limit: it lets the bodies of
// requests, of responses or of both pass no faster than so many KiB in a second, all
// streams of a filter or of a route together.
package bandwidthlimit

import (
	"strconv"
	"time"

	"github.com/mecha-mesh/mecha/proxy/buffer"
	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/filter/bandwidth"
	"github.com/mecha-mesh/mecha/proxy/runtime"
)

const typ = "envoy.extensions.filters.http.bandwidth_limit.v3.BandwidthLimit"

// Spec describes the filter.
var Spec = filter.HTTPSpec[*Config]{
	Name:       "envoy.filters.http.bandwidth_limit",
	Type:       typ,
	RouteType:  typ,
	Parse:      parse,
	ParseRoute: parseRoute,
	New:        newFactory,
}

// Config is the parsed configuration of the filter, or of a route, with its bucket: who
// has the same Config shares it.
type Config struct {
	StatPrefix        string
	Request, Response bool // which bodies are limited
	Enabled           runtime.FlagValue
	Trailers          *trailers // enable_response_trailers; nil: none

	bucket *bandwidth.Bucket // nil: no limit
}

// trailers are the names of the fields that tell how long things took.
type trailers struct{ request, response, requestFilter, responseFilter string }

func trailerNames(prefix string) *trailers {
	if prefix != "" {
		prefix += "-"
	}
	prefix += "bandwidth-"
	return &trailers{prefix + "request-delay-ms", prefix + "response-delay-ms", prefix + "request-filter-delay-ms", prefix + "response-filter-delay-ms"}
}

func newFactory(c *Config, env filter.Env) (func() filter.HTTP, error) {
	sh := newShared(c, env)
	return func() filter.HTTP {
		f := &Filter{shared: sh}
		f.request.f, f.response.f = f, f
		return f
	}, nil
}

// Filter serves one stream at a time.
type Filter struct {
	*shared
	config   *Config // of the stream
	counts   *counters
	request  side
	response side
}

// side is one direction of a stream. It is its pacer.
type side struct {
	f       *Filter
	on      bool
	pending bool // some of the body was seen, and it is not complete
	counts  sideCounters
	begin   time.Time     // of the body
	took    time.Duration // until it was complete
	waits   time.Time     // since when it waits for the bucket; zero: it does not
	delayed time.Duration // how long it has waited for that
}

var (
	_ filter.RequestHeaders   = (*Filter)(nil)
	_ filter.RequestData      = (*Filter)(nil)
	_ filter.ResponseHeaders  = (*Filter)(nil)
	_ filter.ResponseData     = (*Filter)(nil)
	_ filter.ResponseTrailers = (*Filter)(nil)
	_ filter.Choosy           = (*Filter)(nil)
	_ filter.Done             = (*Filter)(nil)
	_ filter.Pacer            = (*side)(nil)
)

// Reset implements filter.HTTP.
func (f *Filter) Reset() {
	f.config, f.counts = nil, nil
	f.request, f.response = side{f: f}, side{f: f}
}

// OnRequestHeaders implements filter.RequestHeaders.
func (f *Filter) OnRequestHeaders(s *filter.Stream, _ bool) error {
	f.config = f.own
	if c, ok := filter.Override[*Config](s, f.slot); ok {
		f.config = c
	}
	c := f.config
	if !c.Request && !c.Response || !c.Enabled.Get() {
		return nil
	}
	f.counts = f.by.Of(c.StatPrefix)
	if c.Request {
		f.request.on, f.request.counts = true, f.counts.request()
		f.request.counts.enabled.Inc()
		s.Engine.PaceRequest(&f.request)
	}
	return nil
}

// OnRequestData implements filter.RequestData.
func (f *Filter) OnRequestData(_ *filter.Stream, b *buffer.Buf, _ bool) error {
	f.request.see(b.Len())
	return nil
}

// OnResponseHeaders implements filter.ResponseHeaders.
func (f *Filter) OnResponseHeaders(s *filter.Stream, _ bool) error {
	if f.counts == nil || !f.config.Response || !f.config.Enabled.Get() {
		return nil
	}
	f.response.on, f.response.counts = true, f.counts.response()
	f.response.counts.enabled.Inc()
	s.Engine.PaceResponse(&f.response)
	return nil
}

// OnResponseData implements filter.ResponseData.
func (f *Filter) OnResponseData(_ *filter.Stream, b *buffer.Buf, _ bool) error {
	f.response.see(b.Len())
	return nil
}

// WantsResponseData implements filter.Choosy.
func (f *Filter) WantsResponseData() bool { return f.response.on }

// OnResponseTrailers implements filter.ResponseTrailers.
func (f *Filter) OnResponseTrailers(s *filter.Stream) error {
	if f.response.pending {
		f.response.Complete(s)
	}
	return nil
}

// OnDone implements filter.Done.
func (f *Filter) OnDone(*filter.Stream) {
	f.request.end()
	f.response.end()
}

// see notes a piece of the body.
func (d *side) see(n int) {
	if !d.on {
		return
	}
	if !d.pending && d.took == 0 {
		d.pending, d.begin = true, time.Now()
		d.counts.pending.Inc()
	}
	d.counts.incoming.Set(int64(n))
	d.counts.incomingTotal.Add(uint64(n))
}

// Take implements filter.Pacer.
func (d *side) Take(n int, now time.Time) (granted int, again time.Duration) {
	granted, again = d.f.config.bucket.Take(n, now)
	if !d.waits.IsZero() {
		d.delayed += now.Sub(d.waits)
		d.waits = time.Time{}
	}
	if granted < n {
		d.counts.enforced.Inc()
		d.waits = now
	}
	d.counts.allowed.Set(int64(granted))
	d.counts.allowedTotal.Add(uint64(granted))
	return granted, again
}

// Complete implements filter.Pacer.
func (d *side) Complete(s *filter.Stream) {
	if !d.pending {
		return
	}
	d.took = max(time.Since(d.begin), 1)
	d.counts.duration.Record(uint64(d.took.Milliseconds()))
	d.end()
	if d == &d.f.response {
		d.f.tell(s)
	}
}

func (d *side) end() {
	if d.pending {
		d.pending = false
		d.counts.pending.Dec()
	}
}

// tell puts the times into the trailers of the response.
func (f *Filter) tell(s *filter.Stream) {
	names := f.config.Trailers
	if names == nil {
		return
	}
	add := func(name string, d time.Duration) {
		if ms := d.Milliseconds(); ms > 0 {
			m := &s.ResponseTrailers
			m.Set(name, m.Format(func(dst []byte) []byte { return strconv.AppendInt(dst, ms, 10) }))
		}
	}
	add(names.request, f.request.took)
	add(names.requestFilter, f.request.delayed)
	add(names.response, f.response.took)
	add(names.responseFilter, f.response.delayed)
}
