// Package attributes is the table of Envoy's attributes: names, such as "request.path",
// under which expressions, external services and plugins ask for what is known of a stream
// or a connection.
// (https://www.envoyproxy.io/docs/envoy/latest/intro/arch_overview/advanced/attributes)
//
// A value is a string, a bool, an int64, a uint64, a float64, a time.Time, a time.Duration,
// a []byte, or something with parts: a map[string]any, or a Keyed.
package attributes

import (
	"strings"
	"time"

	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/header"
	"github.com/mecha-mesh/mecha/proxy/meta"
)

// Keyed is a value whose parts are found by name: header fields, filter state.
type Keyed interface {
	// At returns a part, nil if there is none.
	At(key string) any
	// All returns all parts that have names.
	All() map[string]any
}

// Source is what attributes are read of: a stream, or a connection.
type Source struct {
	Stream *filter.Stream // nil of a connection
	Conn   *filter.Conn   // nil of a stream
}

// Objects are the first words of names.
func Objects() []string {
	return []string{"request", "response", "connection", "source", "destination", "upstream", "xds", "metadata", "filter_state"}
}

// IsObject reports whether a name begins with the name of an object, or is one.
func IsObject(name string) bool {
	object, _, _ := strings.Cut(name, ".")
	for _, o := range Objects() {
		if o == object {
			return true
		}
	}
	return false
}

// Find returns the value of a name such as "request.path" or "metadata"; nil if there is
// none.
func (s Source) Find(name string) any {
	object, part, _ := strings.Cut(name, ".")
	return s.At(object, part)
}

// At returns a part of an object; nil if there is none. The part of metadata and
// filter_state, which are objects themselves, is empty.
func (s Source) At(object, part string) any {
	switch object {
	case "request":
		return s.request(part)
	case "response":
		return s.response(part)
	case "connection":
		return s.connection(part)
	case "source":
		return peer(s.conn().Remote, part)
	case "destination":
		return peer(s.conn().Local, part)
	case "upstream":
		return s.upstream(part)
	case "xds":
		return s.xds(part)
	case "metadata":
		return s.metadata(part)
	case "filter_state":
		if part == "" {
			return state{s}
		}
	}
	return nil
}

// nowhere is a connection of which nothing is known.
var nowhere meta.Conn

func (s Source) conn() *meta.Conn {
	switch {
	case s.Stream != nil && s.Stream.Conn != nil:
		return s.Stream.Conn
	case s.Conn != nil:
		return s.Conn.Meta
	}
	return &nowhere
}

// log is what access logs know.
func (s Source) log() *meta.Stream {
	switch {
	case s.Stream != nil:
		return &s.Stream.Meta
	case s.Conn != nil:
		return &s.Conn.Log
	}
	return &meta.Stream{}
}

// text is a text that is not empty.
func text(s string) any {
	if s == "" {
		return nil
	}
	return s
}

func peer(a meta.Addr, part string) any {
	if !a.Known() {
		return nil
	}
	switch part {
	case "address":
		return a.String()
	case "port":
		if a.AddrPort.IsValid() {
			return int64(a.Port())
		}
	}
	return nil
}

func (s Source) connection(part string) any {
	c := s.conn()
	switch part {
	case "id":
		return c.ID
	case "mtls":
		return c.TLS != nil && len(c.TLS.Peer) > 0
	case "requested_server_name":
		return text(c.ServerName)
	case "termination_details":
		return text(c.Termination)
	case "transport_failure_reason":
		return text(c.TransportFailure)
	}
	return session(c.TLS, part)
}

// session returns an attribute of a TLS session.
func session(t *meta.TLS, part string) any {
	if t == nil {
		return nil
	}
	if part == "tls_version" {
		return text(t.Version)
	}
	name, side, ok := cutSide(part)
	if !ok {
		return nil
	}
	d := t.PeerDescribed()
	if side == "local" {
		d = t.LocalDescribed()
	}
	if d == nil {
		return nil
	}
	switch name {
	case "subject":
		return text(d.Subject)
	case "dns_san":
		return firstName(d, meta.DNSName)
	case "uri_san":
		return firstName(d, meta.URIName)
	case "sha256":
		return text(d.SHA256)
	}
	return nil
}

// cutSide cuts subject_local_certificate, and sha256_peer_certificate_digest.
func cutSide(part string) (name, side string, ok bool) {
	if part == "sha256_peer_certificate_digest" {
		return "sha256", "peer", true
	}
	rest, ok := strings.CutSuffix(part, "_certificate")
	if !ok {
		return "", "", false
	}
	for _, side := range []string{"peer", "local"} {
		if name, ok := strings.CutSuffix(rest, "_"+side); ok {
			return name, side, true
		}
	}
	return "", "", false
}

func firstName(d *meta.Described, k meta.AltKind) any {
	for _, n := range d.Names {
		if n.Kind == k {
			return text(n.Text)
		}
	}
	return nil
}

func (s Source) upstream(part string) any {
	l := s.log()
	switch part {
	case "address", "port":
		return peer(l.UpstreamHost, part)
	case "local_address":
		return peer(l.UpstreamLocal, "address")
	case "transport_failure_reason":
		return text(l.UpstreamFailure)
	case "request_attempt_count":
		if l.Attempts > 0 {
			return int64(l.Attempts)
		}
		return nil
	case "cx_pool_ready_duration":
		return after(l.PoolReady)
	}
	return session(l.UpstreamTLS, part)
}

// after is a time that has passed; nil where the phase did not happen.
func after(d time.Duration) any {
	if d == 0 {
		return nil
	}
	return d
}

// configured is a route with metadata, of its own and of its virtual host.
type configured interface {
	Configured() (route, host meta.Fields)
}

func (s Source) xds(part string) any {
	c, l := s.conn(), s.log()
	switch part {
	case "cluster_name":
		if s.Stream != nil && l.Cluster == "" {
			return text(s.Stream.ClusterName())
		}
		return text(l.Cluster)
	case "cluster_metadata":
		return fields(read(l.ClusterMetadata))
	case "route_name":
		if s.Stream != nil && s.Stream.Route != nil {
			return l.RouteName // it may have none
		}
		return text(l.RouteName)
	case "route_metadata", "virtual_host_metadata":
		if s.Stream == nil {
			return nil
		}
		if r, ok := s.Stream.Route.(configured); ok {
			route, host := r.Configured()
			if part == "route_metadata" {
				return fields(route)
			}
			return fields(host)
		}
	case "upstream_host_metadata":
		return fields(l.HostMetadata)
	case "listener_metadata":
		if c.Configured != nil {
			return fields(read(c.Configured.Listener))
		}
	case "filter_chain_name":
		return text(c.FilterChain)
	}
	return nil
}

func read(f func() meta.Fields) meta.Fields {
	if f == nil {
		return nil
	}
	return f()
}

// fields is metadata as its message is: filter_metadata.NAMESPACE.KEY.
func fields(f meta.Fields) any {
	all := make(map[string]any, len(f))
	for namespace, values := range f {
		all[namespace] = values
	}
	return map[string]any{"filter_metadata": all}
}

// metadata is dynamic metadata.
func (s Source) metadata(part string) any {
	if part != "" {
		return nil
	}
	switch {
	case s.Stream != nil:
		return fields(s.Stream.Metadata.Fields())
	case s.Conn != nil:
		return fields(s.Conn.Metadata.Fields())
	}
	return nil
}

// state is filter state by key: the bytes of an object's text.
type state struct{ s Source }

// At implements Keyed.
func (st state) At(key string) any {
	var object any
	switch {
	case st.s.Stream != nil:
		object = st.s.Stream.FilterState(key)
	case st.s.Conn != nil:
		object = st.s.Conn.FilterState(key)
	}
	if t, ok := filter.StateText(object); ok {
		return []byte(t)
	}
	return nil
}

// All implements Keyed: filter state is not listed.
func (state) All() map[string]any { return nil }

// head is header fields by name.
type head struct{ m *header.Map }

// At implements Keyed. Values of fields of the same name are joined by commas.
func (h head) At(name string) any {
	name = strings.ToLower(name)
	v, ok := h.m.Find(name)
	if !ok {
		return nil
	}
	if h.m.Count(name) == 1 {
		return v
	}
	var all []string
	for v := range h.m.Values(name) {
		all = append(all, v)
	}
	return strings.Join(all, ",")
}

// All implements Keyed.
func (h head) All() map[string]any {
	all := make(map[string]any, h.m.Len())
	for f := range h.m.Fields() {
		all[f.Name] = h.At(f.Name)
	}
	return all
}
