// Package buffering is the HTTP filter buffer: a request goes on when all of it is there,
// so that a slow client does not keep upstream waiting.
package buffering

import (
	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/header"
)

// Spec describes the filter.
var Spec = filter.HTTPSpec[*Config]{
	Name:       "envoy.filters.http.buffer",
	Type:       "envoy.extensions.filters.http.buffer.v3.Buffer",
	RouteType:  "envoy.extensions.filters.http.buffer.v3.BufferPerRoute",
	Parse:      parse,
	ParseRoute: parseRoute,
	New: func(c *Config, env filter.Env) (func() filter.HTTP, error) {
		return func() filter.HTTP { return &Filter{c, env.Slot} }, nil
	},
}

// Config is the parsed configuration.
type Config struct {
	Limit int  // max_request_bytes
	Off   bool // on this route
}

// Filter has no state of a stream.
type Filter struct {
	config *Config
	slot   filter.Slot
}

var _ filter.RequestHeaders = (*Filter)(nil)

// Reset implements filter.HTTP.
func (*Filter) Reset() {}

// Forecast implements filter.Forecaster: there is no body that would be waited for.
func (*Filter) Forecast(*filter.Stream) error { return nil }

// OnRequestHeaders implements filter.RequestHeaders. A request whose length was not known
// has one then.
func (f *Filter) OnRequestHeaders(s *filter.Stream, end bool) error {
	c := f.config
	if own, ok := filter.Override[*Config](s, f.slot); ok {
		c = own
	}
	if end || c.Off {
		return nil
	}
	b, err := s.Engine.BufferRequest(c.Limit)
	if err != nil {
		return err
	}
	if !s.Request.Has(header.ContentLength) && s.RequestTrailers.Len() == 0 {
		s.Request.DelID(header.TransferEncoding)
		s.Request.SetInt(header.ContentLength, int64(b.Len()))
	}
	return nil
}
