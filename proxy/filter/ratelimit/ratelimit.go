// Package ratelimit computes the descriptors of rate_limits: what of a stream counts
// together. Routes and virtual hosts carry Limits, and so do filters; who asks a service
// or a bucket for its verdict is not here.
package ratelimit

import (
	"net/netip"
	"strconv"

	"github.com/mecha-mesh/mecha/proxy/accesslog"
	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/header"
	"github.com/mecha-mesh/mecha/proxy/match"
	"github.com/mecha-mesh/mecha/proxy/runtime"
)

// Entry is one pair of a descriptor. Its strings are lent as long as the stream lives.
type Entry struct{ Key, Value string }

// Limit is one entry of rate_limits: plain, validated, immutable.
type Limit struct {
	Stage   uint32 // 0 to 10
	Actions []Action
	// Enabled is off where the runtime turns disable_key off: 100% unless it says so.
	Enabled runtime.UintValue
	Keyed   bool // there is a disable_key
	// OnDone is apply_on_stream_done: the limit counts when the stream is over.
	OnDone bool
	// Override is where dynamic metadata has another limit than the service's.
	Override *MetadataKey
	Hits     *Hits  // hits_addend, nil for none
	Headers  Option // x_ratelimit_option
}

// Option is x_ratelimit_option.
type Option uint8

// The options, in the order of the enum.
const (
	AsFilter Option = iota
	Off
	DraftVersion03
)

// Hits is how much a request counts.
type Hits struct {
	Number   uint64
	Format   *accesslog.Format // in place of Number: what comes out is the number
	Negative bool              // is_negative_hits
}

// Limits are those of one level, in order.
type Limits []Limit

// Routed is a route with rate limits.
type Routed interface {
	// RateLimits returns the limits of the route and those of its virtual host; host tells
	// that the latter count even if the route has some (include_vh_rate_limits).
	RateLimits() (own, host Limits, include bool)
}

// Applies reports whether the limit is for that stage and not turned off.
func (l *Limit) Applies(s *filter.Stream, stage uint32) bool {
	if l.Stage != stage {
		return false
	}
	return !l.Keyed || s.Random()%100 < l.Enabled.Get()
}

// Append appends the entries of the descriptor; local is the cluster that this proxy is
// part of (node.cluster). Without ok there is no descriptor for this stream.
func (l *Limit) Append(dst []Entry, s *filter.Stream, local string) (out []Entry, ok bool) {
	for i := range l.Actions {
		e, ok := l.Actions[i].entry(s, local)
		if !ok {
			return dst, false
		}
		if e.Key != "" {
			dst = append(dst, e)
		}
	}
	return dst, true
}

// Value returns the number of requests and the unit ("SECOND", "MINUTE" ...) that dynamic
// metadata has for the limit.
func (k *MetadataKey) Value(s *filter.Stream) (requests uint32, unit string, ok bool) {
	v, _ := s.Metadata.Find(k.Namespace, k.Path...)
	fields, _ := v.(map[string]any)
	n, isNumber := fields["requests_per_unit"].(float64)
	unit, _ = fields["unit"].(string)
	return uint32(n), unit, isNumber && unit != ""
}

// Count returns how much the request counts; ok is false where that is no number, or too
// large a one.
func (h *Hits) Count(s *filter.Stream) (n uint64, ok bool) {
	if h.Format == nil {
		return h.Number, true
	}
	text := s.Request.Format(func(dst []byte) []byte { return h.Format.Append(dst, s.LogEntry()) })
	n, err := strconv.ParseUint(text, 10, 64)
	return n, err == nil && n <= maxHits
}

const maxHits = 1_000_000_000

// Kind is what an Action looks at.
type Kind uint8

// The kinds.
const (
	SourceCluster Kind = iota
	DestinationCluster
	RequestHeader
	QueryParameter
	RemoteAddress
	MaskedRemoteAddress
	GenericKey
	HeaderMatch
	QueryMatch
	AddressMatch
	DynamicMetadata
	RouteMetadata
)

// Action makes one entry of a descriptor (RateLimit.Action).
type Action struct {
	Kind    Kind
	Key     string // descriptor_key
	Name    string // of the header or the query parameter, headers in lower case
	Skip    bool   // skip_if_absent: the entry is left out, and the descriptor is still made
	Value   string // descriptor_value
	Format  *accesslog.Format
	Default string // default_value
	Expect  bool   // expect_match
	V4, V6  int    // prefix lengths of a masked address
	Headers match.Headers
	Query   []match.Query
	Ranges  match.CIDRs
	Invert  bool // of Ranges
	Meta    MetadataKey
}

// MetadataKey is envoy.type.metadata.v3.MetadataKey.
type MetadataKey struct {
	Namespace string
	Path      []string
}

// entry makes the entry. One without a key is left out; without ok there is no descriptor.
func (a *Action) entry(s *filter.Stream, local string) (e Entry, ok bool) {
	switch a.Kind {
	case SourceCluster:
		return Entry{"source_cluster", local}, true
	case DestinationCluster:
		return Entry{"destination_cluster", s.ClusterName()}, true
	case RequestHeader:
		v, there := s.Request.Find(a.Name)
		return a.found(v, there)
	case QueryParameter:
		v, there := match.QueryValue(s.Request.Value(header.Path), a.Name)
		return a.found(v, there)
	case RemoteAddress, MaskedRemoteAddress:
		return a.address(s)
	case GenericKey:
		return a.valued(s, true)
	case HeaderMatch:
		return a.valued(s, a.Headers.Match(&s.Request) == a.Expect)
	case QueryMatch:
		return a.valued(s, a.queryMatches(s) == a.Expect)
	case AddressMatch:
		ip, known := remote(s)
		return a.valued(s, known && a.Ranges.Match(ip) != a.Invert)
	}
	return a.metadata(s)
}

func (a *Action) found(v string, there bool) (Entry, bool) {
	if !there {
		return Entry{}, a.Skip
	}
	return Entry{a.Key, v}, true
}

func (a *Action) queryMatches(s *filter.Stream) bool {
	for i := range a.Query {
		if !a.Query[i].Match(s.Request.Value(header.Path)) {
			return false
		}
	}
	return true
}

// valued makes an entry of descriptor_value, or of default_value where that is empty.
func (a *Action) valued(s *filter.Stream, ok bool) (Entry, bool) {
	if !ok {
		return Entry{}, false
	}
	v := a.Value
	if a.Format != nil {
		v = s.Request.Format(func(dst []byte) []byte { return a.Format.Append(dst, s.LogEntry()) })
	}
	if v == "" {
		v = a.Default
	}
	return Entry{a.Key, v}, v != ""
}

func remote(s *filter.Stream) (netip.Addr, bool) {
	if s.Conn == nil {
		return netip.Addr{}, false
	}
	ip := s.Conn.Remote.Addr().Unmap()
	return ip, ip.IsValid()
}

func (a *Action) address(s *filter.Stream) (Entry, bool) {
	ip, known := remote(s)
	if !known {
		return Entry{}, false
	}
	if a.Kind == RemoteAddress {
		return Entry{"remote_address", s.Request.Format(ip.AppendTo)}, true
	}
	bits := a.V6
	if ip.Is4() {
		bits = a.V4
	}
	prefix, err := ip.WithZone("").Prefix(bits)
	if err != nil {
		return Entry{}, false
	}
	return Entry{"masked_remote_address", s.Request.Format(prefix.AppendTo)}, true
}

// metadata makes an entry of a string in metadata.
func (a *Action) metadata(s *filter.Stream) (Entry, bool) {
	var v any
	if a.Kind == DynamicMetadata {
		v, _ = s.Metadata.Find(a.Meta.Namespace, a.Meta.Path...)
	} else if r, ok := s.Route.(interface {
		FindMetadata(namespace string, path ...string) any
	}); ok {
		v = r.FindMetadata(a.Meta.Namespace, a.Meta.Path...)
	}
	text, _ := v.(string)
	if text == "" {
		text = a.Default
	}
	if text == "" {
		return Entry{}, a.Skip
	}
	return Entry{a.Key, text}, true
}
