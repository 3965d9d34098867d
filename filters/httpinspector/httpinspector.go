// Package httpinspector is the listener filter http_inspector: it tells HTTP/1.0,
// HTTP/1.1 and HTTP/2 with prior knowledge from other plain text by the first bytes
// of a connection.
//
// HTTP inside TLS is not looked at: there ALPN says what it is.
package httpinspector

import (
	"errors"
	"io"

	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/stats"
)

// Spec describes the filter.
var Spec = filter.ListenerSpec[*Config]{
	Name:  "envoy.filters.listener.http_inspector",
	Type:  "envoy.extensions.filters.listener.http_inspector.v3.HttpInspector",
	Parse: parseConfig,
	New:   newInspector,
}

// Config is the parsed configuration: there is nothing to configure.
type Config struct{}

// counters is http_inspector.*.
type counters struct {
	HTTP10   stats.Counter `stat:"http10_found" help:"connections that begin with HTTP/1.0"`
	HTTP11   stats.Counter `stat:"http11_found" help:"connections that begin with HTTP/1.1"`
	HTTP2    stats.Counter `stat:"http2_found" help:"connections that begin with HTTP/2"`
	NotFound stats.Counter `stat:"http_not_found" help:"connections that do not begin with HTTP"`
}

// The application protocols, shared by all connections.
var (
	alpn10 = []string{"http/1.0"}
	alpn11 = []string{"http/1.1"}
	alpn2  = []string{"h2c"}
)

// maxLine is how much of a request line is looked at.
const maxLine = 32 << 10

type inspector struct{ s *counters }

var _ filter.Listener = (*inspector)(nil)

func newInspector(_ *Config, env filter.Env) (filter.Listener, error) {
	s, release := stats.Shared[counters](env.Stats, "http_inspector", "", "")
	env.OnRetire(release)
	return &inspector{s}, nil
}

// Inspect implements filter.Listener.
func (f *inspector) Inspect(p filter.Peeker) error {
	if t := p.Meta().TransportProtocol; t != "" && t != "raw_buffer" {
		return nil
	}
	for need := 1; ; {
		b, err := p.Peek(need)
		switch v := parse(b); {
		case v != more:
			f.found(p, v)
			return nil
		case err != nil:
			if errors.Is(err, io.EOF) && len(b) > 0 {
				f.found(p, notHTTP) // what came may still be answered
				return nil
			}
			return err
		case len(b) >= maxLine:
			f.found(p, notHTTP)
			return nil
		}
		need = len(b) + 1
	}
}

func (f *inspector) found(p filter.Peeker, v verdict) {
	m := p.Meta()
	switch v {
	case http10:
		f.s.HTTP10.Inc()
		m.ALPN = alpn10
	case http11:
		f.s.HTTP11.Inc()
		m.ALPN = alpn11
	case http2:
		f.s.HTTP2.Inc()
		m.ALPN = alpn2
	default:
		f.s.NotFound.Inc()
	}
}
