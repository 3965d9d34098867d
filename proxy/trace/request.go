package trace

import (
	"strconv"
	"strings"
	"time"

	"github.com/mecha-mesh/mecha/proxy/accesslog"
	"github.com/mecha-mesh/mecha/proxy/header"
	"github.com/mecha-mesh/mecha/proxy/meta"
)

// EndRequest tags the span of a request as Envoy does, and ends it. client is the peer of
// the connection.
func (t *Tracing) EndRequest(s *Span, e *accesslog.Entry, r *Route, client meta.Addr, end time.Time) {
	if !s.Recording() {
		return
	}
	m := e.Request
	if id := m.Value(header.XRequestId); id != "" {
		s.Tag("guid:x-request-id", id)
	}
	s.Tag("http.url", t.url(m))
	s.Tag("http.method", m.Value(header.Method))
	s.Tag("downstream_cluster", or(m.Value(header.XEnvoyDownstreamServiceCluster), "-"))
	s.Tag("user_agent", or(m.Value(header.UserAgent), "-"))
	s.Tag("http.protocol", e.Stream.Protocol.String())
	peer := client.Path
	if client.AddrPort.IsValid() {
		peer = client.Addr().String()
	}
	s.Tag("peer.address", peer)
	if id, ok := m.Find(clientTraceID); ok {
		s.Tag("guid:x-client-trace-id", id)
	}
	if strings.HasPrefix(m.Value(header.ContentType), "application/grpc") {
		s.Tag("grpc.path", m.Value(header.Path))
		s.Tag("grpc.authority", m.Value(header.Authority))
		s.Tag("grpc.content_type", m.Value(header.ContentType))
		if v := m.Value(header.GrpcTimeout); v != "" {
			s.Tag("grpc.timeout", v)
		}
	}
	s.Tag("request_size", strconv.FormatInt(e.Stream.BytesReceived, 10))
	s.Tag("response_size", strconv.FormatInt(e.Stream.BytesSent, 10))
	t.end(s, e, r, false, end)
}

// EndAttempt tags the span of an attempt to get a response from a host, and ends it. e has
// what is known of the attempt alone.
func (t *Tracing) EndAttempt(s *Span, e *accesslog.Entry, r *Route, end time.Time) {
	if !s.Recording() {
		return
	}
	s.Tag("http.protocol", e.Stream.Protocol.String())
	if host := e.Stream.UpstreamHost; host.Known() {
		text := host.String()
		s.Tag("upstream_address", text)
		s.Tag("peer.address", text)
	}
	t.end(s, e, r, true, end)
}

func or(text, otherwise string) string {
	if text == "" {
		return otherwise
	}
	return text
}

// url is what the client has asked for, as far as max_path_tag_length goes.
func (t *Tracing) url(m *header.Map) string {
	path := or(m.Value(header.XEnvoyOriginalPath), m.Value(header.Path))
	if path == "" {
		return ""
	}
	return m.Concat(or(m.Value(header.XForwardedProto), m.Value(header.Scheme)), "://", m.Value(header.Authority), path[:min(len(path), t.MaxPath)])
}

// end adds what both kinds of spans have.
func (t *Tracing) end(s *Span, e *accesslog.Entry, r *Route, upstream bool, end time.Time) {
	st := e.Stream
	s.Tag("component", "proxy")
	if st.ClusterStatName != "" {
		s.Tag("upstream_cluster", st.Cluster)
		s.Tag("upstream_cluster.name", st.ClusterStatName)
	}
	s.Tag("http.status_code", strconv.Itoa(st.Code))
	s.Status(st.Code)
	s.Tag("response_flags", st.Flags.String())
	if t.Verbose {
		annotate(s, st, upstream)
	}
	if st.Code == 0 || st.Code >= 500 {
		s.Tag("error", "true")
	}
	for i := range t.Tags {
		if !r.has(t.Tags[i].Name) {
			s.custom(&t.Tags[i], e)
		}
	}
	if r != nil {
		for i := range r.Tags {
			s.custom(&r.Tags[i], e)
		}
	}
	for _, m := range []*header.Map{e.Response, e.Trailers} {
		s.grpc(m)
	}
	if f := t.operation(r, upstream); f != nil {
		s.SetName(format(f, e))
	}
	s.End(end)
}

// has reports whether the route has a tag of its own of that name.
func (r *Route) has(name string) bool {
	if r == nil {
		return false
	}
	for i := range r.Tags {
		if r.Tags[i].Name == name {
			return true
		}
	}
	return false
}

func (s *Span) custom(t *Tag, e *accesslog.Entry) {
	if v := t.Text(e); v != "" {
		s.Tag(t.Name, v)
	}
}

// grpc tells how a gRPC call has ended. A status of which the server is guilty is an error,
// for the client every one but OK.
func (s *Span) grpc(m *header.Map) {
	if m == nil || !m.Has(header.GrpcStatus) {
		return
	}
	text := m.Value(header.GrpcStatus)
	s.Tag("grpc.status_code", text)
	if v := m.Value(header.GrpcMessage); m.Has(header.GrpcMessage) {
		s.Tag("grpc.message", v)
	}
	if s.kind == Client && text != "0" {
		s.Fail()
	}
	switch text {
	case "2", "4", "12", "13", "14", "15":
		s.Tag("error", "true")
		s.Fail()
	}
}

// annotate notes when what has happened (verbose).
func annotate(s *Span, st *meta.Stream, upstream bool) {
	for _, e := range []struct {
		name string
		own  bool // of the client's side
		at   time.Duration
	}{
		{"last_downstream_rx_byte_received", true, st.RequestEnd},
		{"first_upstream_tx_byte_sent", false, st.UpstreamStart},
		{"last_upstream_tx_byte_sent", false, st.UpstreamEnd},
		{"first_upstream_rx_byte_received", false, st.ResponseStart},
		{"last_upstream_rx_byte_received", false, st.ResponseEnd},
		{"first_downstream_tx_byte_sent", true, st.DownstreamStart},
		{"last_downstream_tx_byte_sent", true, st.End},
	} {
		if e.at != 0 && !(upstream && e.own) {
			s.Event(e.name, st.Start.Add(e.at))
		}
	}
}
