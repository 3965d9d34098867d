// Package setfilterstate is set_filter_state, for connections and for HTTP streams: it
// puts values that formats compute into filter state, by which other filters and
// clusters are told what to do.
package setfilterstate

import (
	"github.com/mecha-mesh/mecha/proxy/accesslog"
	"github.com/mecha-mesh/mecha/proxy/buffer"
	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/meta"
)

// Spec describes the filter of connections.
var Spec = filter.NetworkSpec[*Config]{
	Name:  "envoy.filters.network.set_filter_state",
	Type:  "envoy.extensions.filters.network.set_filter_state.v3.Config",
	Parse: parse,
	New: func(c *Config, _ filter.Env) (func() filter.Network, error) {
		return func() filter.Network {
			if len(c.OnData) > 0 {
				return &dataSetter{connSetter: connSetter{c}}
			}
			return &connSetter{c}
		}, nil
	},
}

// HTTP describes the filter of streams.
var HTTP = filter.HTTPSpec[*Config]{
	Name:      "envoy.filters.http.set_filter_state",
	Type:      "envoy.extensions.filters.http.set_filter_state.v3.Config",
	RouteType: "envoy.extensions.filters.http.set_filter_state.v3.Config",
	Parse:     parseHTTP,
	New: func(c *Config, env filter.Env) (func() filter.HTTP, error) {
		return func() filter.HTTP { return &streamSetter{c, env.Slot} }, nil
	},
}

// Config is the parsed configuration.
type Config struct {
	OnOpen []Value // on_new_connection, on_request_headers
	OnData []Value // on_downstream_data
}

// Value is one object to set.
type Value struct {
	Key         string
	Make        filter.ObjectFactory
	Format      *accesslog.Format
	SkipIfEmpty bool
	// Shared and Transitive are shared_with_upstream: ONCE is Shared, TRANSITIVE is both.
	Shared, Transitive bool
}

// apply sets values in a state. What the factory cannot make is left out.
func apply(values []Value, e *accesslog.Entry, state *filter.State) {
	for i := range values {
		v := &values[i]
		text := string(v.Format.Append(nil, e))
		if text == "" && v.SkipIfEmpty {
			continue
		}
		object, ok := v.Make(text)
		switch {
		case ok && v.Shared:
			state.Share(meta.Object{Key: v.Key, Value: object, Transitive: v.Transitive})
		case ok:
			state.Set(v.Key, object)
		}
	}
}

type connSetter struct{ c *Config }

var _ filter.ConnOpener = (*connSetter)(nil)

// Reset implements filter.Network.
func (*connSetter) Reset() {}

// OnConn implements filter.ConnOpener.
func (s *connSetter) OnConn(c *filter.Conn) error {
	apply(s.c.OnOpen, c.LogEntry(), &c.State)
	return nil
}

// dataSetter is a connSetter that waits for the first bytes, too.
type dataSetter struct {
	connSetter
	done bool
}

var _ filter.ConnReader = (*dataSetter)(nil)

// Reset implements filter.Network.
func (s *dataSetter) Reset() { s.done = false }

// OnRead implements filter.ConnReader.
func (s *dataSetter) OnRead(c *filter.Conn, b *buffer.Buf, _ bool) error {
	if !s.done && b.Len() > 0 {
		s.done = true
		apply(s.c.OnData, c.LogEntry(), &c.State)
	}
	return nil
}

type streamSetter struct {
	c    *Config
	slot filter.Slot
}

var _ filter.RequestHeaders = (*streamSetter)(nil)

// Reset implements filter.HTTP.
func (*streamSetter) Reset() {}

// OnRequestHeaders implements filter.RequestHeaders. The route's values come after the
// filter's own.
func (f *streamSetter) OnRequestHeaders(s *filter.Stream, _ bool) error {
	apply(f.c.OnOpen, s.LogEntry(), &s.State)
	if own, ok := filter.Override[*Config](s, f.slot); ok {
		apply(own.OnOpen, s.LogEntry(), &s.State)
	}
	return nil
}
