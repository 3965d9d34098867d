// Package tlsinspector is the listener filter tls_inspector: it tells TLS from plain
// text by the first bytes of a connection and reads the server name and the
// application protocols that the client asks for.
//
// It does not take part in the handshake: that is the transport socket of the chain
// that is chosen.
package tlsinspector

import (
	"errors"
	"io"

	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/stats"
)

// Spec describes the filter.
var Spec = filter.ListenerSpec[*Config]{
	Name:  "envoy.filters.listener.tls_inspector",
	Type:  "envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector",
	Parse: parseConfig,
	New:   newInspector,
}

// Config is the parsed configuration.
type Config struct {
	// MaxHello is max_client_hello_size in bytes, record headers included; 16 KiB unless set.
	MaxHello int
	// CloseOnError closes connections whose ClientHello cannot be parsed, instead of
	// taking them for plain text.
	CloseOnError bool
}

// counters is tls_inspector.*.
type counters struct {
	Closed   stats.Counter   `stat:"connection_closed" help:"connections that ended before they could be told apart"`
	TooLarge stats.Counter   `stat:"client_hello_too_large" help:"connections closed for too large a ClientHello"`
	Found    stats.Counter   `stat:"tls_found" help:"connections that begin with a ClientHello"`
	NotFound stats.Counter   `stat:"tls_not_found" help:"connections that do not"`
	ALPN     stats.Counter   `stat:"alpn_found" help:"ClientHellos with application protocols"`
	NoALPN   stats.Counter   `stat:"alpn_not_found" help:"ClientHellos without application protocols"`
	SNI      stats.Counter   `stat:"sni_found" help:"ClientHellos with a server name"`
	NoSNI    stats.Counter   `stat:"sni_not_found" help:"ClientHellos without a server name"`
	Bytes    stats.Histogram `stat:"bytes_processed" help:"bytes looked at for each connection"`
}

type inspector struct {
	c *Config
	s *counters
}

var _ filter.Listener = (*inspector)(nil)

func newInspector(c *Config, env filter.Env) (filter.Listener, error) {
	s, release := stats.Shared[counters](env.Stats, "tls_inspector", "", "")
	env.OnRetire(release)
	return &inspector{c, s}, nil
}

var (
	errTooLarge = errors.New("tls_inspector: the ClientHello is too large")
	errNotHello = errors.New("tls_inspector: no ClientHello")
)

// Inspect implements filter.Listener. A single byte is enough to tell most other
// protocols from TLS.
func (f *inspector) Inspect(p filter.Peeker) error {
	for need := 1; ; {
		b, err := p.Peek(need)
		h, v, n := parse(b, f.c.MaxHello)
		switch {
		case v == more && err == nil:
			need = n
			continue
		case v == more:
			if errors.Is(err, io.EOF) && len(b) > 0 {
				return f.decide(p, hello{}, notTLS, len(b)) // what came may still be answered
			}
			f.s.Closed.Inc()
			return err
		}
		return f.decide(p, h, v, len(b))
	}
}

func (f *inspector) decide(p filter.Peeker, h hello, v verdict, n int) error {
	f.s.Bytes.Record(uint64(n))
	switch v {
	case tooLarge:
		f.s.TooLarge.Inc()
		return errTooLarge
	case notTLS:
		f.s.NotFound.Inc()
		if f.c.CloseOnError {
			return errNotHello
		}
		return nil
	}
	f.s.Found.Inc()
	m := p.Meta()
	m.TransportProtocol, m.ServerName, m.ALPN = "tls", h.serverName, h.alpn
	count(h.serverName != "", &f.s.SNI, &f.s.NoSNI)
	count(len(h.alpn) > 0, &f.s.ALPN, &f.s.NoALPN)
	return nil
}

func count(yes bool, found, not *stats.Counter) {
	if yes {
		found.Inc()
	} else {
		not.Inc()
	}
}
