// Package proxyprotocol is the listener filter proxy_protocol: a connection begins with
// a PROXY protocol header (version 1 or 2), which says where it really comes from and
// was going to. The header is taken away, the addresses are those of the connection
// from then on, and extensions of version 2 go into dynamic metadata or filter state.
//
// Writing such headers to upstream is not here.
package proxyprotocol

import (
	"encoding/base64"
	"errors"
	"io"
	"strings"
	"unicode/utf8"

	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/meta"
	"github.com/mecha-mesh/mecha/proxy/stats"
)

// Spec describes the filter.
var Spec = filter.ListenerSpec[*Config]{
	Name:  "envoy.filters.listener.proxy_protocol",
	Type:  "envoy.extensions.filters.listener.proxy_protocol.v3.ProxyProtocol",
	Parse: parseConfig,
	New:   newInspector,
}

// namespace is where rules that name no other put their metadata, and stateKey where
// they put filter state.
const (
	namespace = "envoy.filters.listener.proxy_protocol"
	stateKey  = "envoy.network.proxy_protocol.tlv"
)

// Config is the parsed configuration.
type Config struct {
	Optional bool // allow_requests_without_proxy_protocol
	// Disallowed are the versions (V1, V2) in disallowed_versions.
	Disallowed [2]bool
	StatPrefix string
	Rules      map[byte]Rule // by type of TLV
	InState    bool          // tlv_location FILTER_STATE
	PassAll    bool          // pass_through_tlvs INCLUDE_ALL
	Pass       [256]bool     // pass_through_tlvs INCLUDE
}

// Rule says where the value of a TLV goes.
type Rule struct {
	Namespace, Key string
	Base64         bool // otherwise what is no UTF-8 is replaced
}

// counters is proxy_proto.[stat_prefix.]*.
type counters struct {
	Allowed stats.Counter `stat:"not_found_allowed" help:"connections without a header that were allowed"`
	Refused stats.Counter `stat:"not_found_disallowed" help:"connections closed for want of a header"`
}

// versionCounters is proxy_proto.[stat_prefix.]versions.<version>.*.
type versionCounters struct {
	Found      stats.Counter `stat:"found" help:"headers of the version (versions.v1, versions.v2) that were understood"`
	Disallowed stats.Counter `stat:"disallowed" help:"connections closed for a header of a version that is not allowed"`
	Errors     stats.Counter `stat:"error" help:"connections closed for a header that was not understood"`
}

// legacy is in no scope at all, as in Envoy.
type legacy struct {
	Errors stats.Counter `stat:"downstream_cx_proxy_proto_error" help:"connections closed for a header that was not understood or not there; outside proxy_proto, of all listeners together"`
}

type inspector struct {
	c        *Config
	counters *counters
	versions [2]*versionCounters
	legacy   *legacy
}

var _ filter.Listener = (*inspector)(nil)

var (
	errMissing    = errors.New("proxy_protocol: there is no PROXY protocol header")
	errWrong      = errors.New("proxy_protocol: the PROXY protocol header cannot be understood")
	errDisallowed = errors.New("proxy_protocol: the version of the PROXY protocol is not allowed")
)

func newInspector(c *Config, env filter.Env) (filter.Listener, error) {
	f := &inspector{c: c}
	prefix := "proxy_proto"
	if c.StatPrefix != "" {
		prefix += "." + c.StatPrefix
	}
	var release func()
	f.counters, release = stats.Shared[counters](env.Stats, prefix, "", "")
	env.OnRetire(release)
	for v, name := range [...]string{"v1", "v2"} {
		f.versions[v], release = stats.Shared[versionCounters](env.Stats, prefix+".versions", "envoy_proxy_protocol_version", name)
		env.OnRetire(release)
	}
	f.legacy, release = stats.Shared[legacy](env.Stats, "", "", "")
	env.OnRetire(release)
	return f, nil
}

// Inspect implements filter.Listener.
func (f *inspector) Inspect(p filter.Peeker) error {
	look := allowed{true, true}
	if f.c.Optional { // what is not allowed is then no header at all
		look = allowed{!f.c.Disallowed[v1], !f.c.Disallowed[v2]}
	}
	for need := 1; ; {
		b, err := p.Peek(need)
		h, v, n := parse(b, look)
		switch v {
		case more:
			if err != nil {
				return f.cutShort(b, err)
			}
			need = n
			continue
		case none:
			return f.missing()
		case endless: // closed even where no header is needed
			return f.refuse()
		case wrong:
			f.versions[h.version].Errors.Inc()
			f.legacy.Errors.Inc()
			return errWrong
		}
		f.versions[h.version].Found.Inc()
		if f.c.Disallowed[h.version] {
			f.versions[h.version].Disallowed.Inc()
			return errDisallowed
		}
		f.apply(p, &h)
		return p.Discard(h.size)
	}
}

// cutShort is a connection that ends, or goes on too slowly, in what may be a header.
func (f *inspector) cutShort(b []byte, err error) error {
	if f.c.Optional && errors.Is(err, io.EOF) && len(b) > 0 {
		return f.missing() // what came may still be answered
	}
	return err
}

func (f *inspector) missing() error {
	if f.c.Optional {
		f.counters.Allowed.Inc()
		return nil
	}
	return f.refuse()
}

func (f *inspector) refuse() error {
	f.counters.Refused.Inc()
	f.legacy.Errors.Inc()
	return errMissing
}

// apply gives the connection what its header says.
func (f *inspector) apply(p filter.Peeker, h *header) {
	m, c := p.Meta(), p.Conn()
	if !h.own {
		if dst := (meta.Addr{AddrPort: h.dst}); dst != m.Local {
			m.Local, m.LocalRestored = dst, true
		}
		m.Remote = meta.Addr{AddrPort: h.source}
	}
	said := &meta.ProxyProtocol{Source: m.Remote, Destination: m.Local}
	for _, t := range h.tlvs {
		if r, ok := f.c.Rules[t.Type]; ok {
			f.store(c, r, t.Value)
		}
		if f.c.PassAll || f.c.Pass[t.Type] {
			said.TLVs = append(said.TLVs, meta.TLV{Type: t.Type, Value: append([]byte(nil), t.Value...)})
		}
	}
	if c.State.Get(meta.ProxyProtocolKey) == nil {
		c.State.Set(meta.ProxyProtocolKey, said)
		m.Proxied = said
	}
}

// store puts the value of a TLV where its rule says. Of several values for one place
// the first stays in metadata, the last in filter state, as in Envoy.
func (f *inspector) store(c *filter.Conn, r Rule, raw []byte) {
	text := ""
	if r.Base64 {
		text = base64.StdEncoding.EncodeToString(raw)
	} else {
		text = sanitized(raw)
	}
	if f.c.InState {
		all, _ := c.State.Get(stateKey).(values)
		if all == nil {
			all = values{}
			c.State.Set(stateKey, all)
		}
		all[r.Key] = text
		return
	}
	if _, there := c.Metadata.Find(r.Namespace, r.Key); !there {
		c.Metadata.Set(r.Namespace, r.Key, text)
	}
}

// sanitized is raw with every byte that is no UTF-8 replaced by an exclamation mark.
func sanitized(raw []byte) string {
	if utf8.Valid(raw) {
		return string(raw)
	}
	var sb strings.Builder
	for len(raw) > 0 {
		r, n := utf8.DecodeRune(raw)
		if r == utf8.RuneError && n == 1 {
			sb.WriteByte('!')
		} else {
			sb.Write(raw[:n])
		}
		raw = raw[n:]
	}
	return sb.String()
}

// values are TLVs in filter state, by the keys of their rules.
type values map[string]string

var _ filter.Fields = values(nil)

// Field implements filter.Fields.
func (v values) Field(name string) (string, bool) {
	text, ok := v[name]
	return text, ok
}
