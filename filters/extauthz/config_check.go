package extauthz

import (
	"strconv"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/filter/fromproto"
	"github.com/mecha-mesh/mecha/proxy/header"
	"github.com/mecha-mesh/mecha/proxy/match"
	"github.com/mecha-mesh/mecha/proxy/meta"
)

// checkRequest encodes envoy.service.auth.v3.CheckRequest.
func (f *Filter) checkRequest(s *filter.Stream, q *question) ([]byte, error) {
	about := told{PeerCert: f.IncludePeerCert, TLSSession: f.IncludeTLSSession, Metadata: f.MetadataContext}
	attrs := about.attributes(s.Accepted(), &s.Metadata)
	attrs.Request = &authv3.AttributeContext_Request{Time: timestamppb.New(s.Meta.Start), Http: f.httpRequest(s, q)}
	attrs.ContextExtensions = f.extensions(s)
	attrs.Source.Service = fromproto.Text(s.Request.Value(header.XEnvoyDownstreamServiceCluster))
	attrs.RouteMetadataContext = f.routeContext(s)
	return proto.Marshal(&authv3.CheckRequest{Attributes: attrs})
}

// connRequest is CheckRequest about a connection.
func connRequest(c *filter.Conn, about *told) ([]byte, error) {
	return proto.Marshal(&authv3.CheckRequest{Attributes: about.attributes(c.Meta, &c.Metadata)})
}

// attributes describes a connection.
func (t *told) attributes(c *meta.Conn, dynamic *meta.Metadata) *authv3.AttributeContext {
	attrs := &authv3.AttributeContext{
		Source: peer(c.Remote, c.TLS.PeerDescribed()), Destination: peer(c.Local, c.TLS.LocalDescribed()),
		MetadataContext: &corev3.Metadata{},
	}
	if t.PeerCert && c.TLS != nil && len(c.TLS.Peer) > 0 {
		attrs.Source.Certificate = string(meta.AppendEncodedPEM(nil, c.TLS.Peer[0]))
	}
	if t.TLSSession {
		attrs.TlsSession = &authv3.AttributeContext_TLSSession{Sni: fromproto.Text(c.ServerName)}
	}
	for _, name := range t.Metadata {
		addFields(attrs.MetadataContext, name, dynamic.Namespace(name))
	}
	return attrs
}

// routeContext is what of the route's metadata is told.
func (f *Filter) routeContext(s *filter.Stream) *corev3.Metadata {
	out := &corev3.Metadata{}
	r, ok := s.Route.(interface {
		FindMetadata(namespace string, path ...string) any
	})
	if !ok {
		return out
	}
	for _, name := range f.RouteContext {
		if fields, isMap := r.FindMetadata(name).(map[string]any); isMap {
			addFields(out, name, fields)
		}
	}
	return out
}

// addFields adds a namespace of metadata that can be sent.
func addFields(to *corev3.Metadata, name string, fields map[string]any) {
	if fields == nil {
		return
	}
	if st, err := structpb.NewStruct(fields); err == nil {
		if to.FilterMetadata == nil {
			to.FilterMetadata = map[string]*structpb.Struct{}
		}
		to.FilterMetadata[name] = st
	}
}

// peer describes one end of the connection.
func peer(a meta.Addr, d *meta.Described) *authv3.AttributeContext_Peer {
	p := &authv3.AttributeContext_Peer{Address: address(a)}
	if d != nil {
		p.Principal = fromproto.Text(principal(d))
	}
	return p
}

func address(a meta.Addr) *corev3.Address {
	if !a.AddrPort.IsValid() {
		return &corev3.Address{Address: &corev3.Address_Pipe{Pipe: &corev3.Pipe{Path: fromproto.Text(a.Path)}}}
	}
	return &corev3.Address{Address: &corev3.Address_SocketAddress{SocketAddress: &corev3.SocketAddress{
		Address: a.Addr().Unmap().String(), PortSpecifier: &corev3.SocketAddress_PortValue{PortValue: uint32(a.Port())},
	}}}
}

// principal is the first URI of a certificate, or its first DNS name, or its subject.
func principal(d *meta.Described) string {
	for _, kind := range []meta.AltKind{meta.URIName, meta.DNSName} {
		for _, n := range d.Names {
			if n.Kind == kind {
				return n.Text
			}
		}
	}
	return d.Subject
}

// httpRequest describes the request.
func (f *Filter) httpRequest(s *filter.Stream, q *question) *authv3.AttributeContext_HttpRequest {
	m := &s.Request
	r := &authv3.AttributeContext_HttpRequest{
		Id: strconv.FormatUint(s.Random(), 10), Method: fromproto.Text(m.Value(header.Method)), Path: fromproto.Text(m.Value(header.Path)),
		Host: fromproto.Text(m.Value(header.Authority)), Scheme: fromproto.Text(m.Value(header.Scheme)), Size: s.Meta.BytesReceived,
		Protocol: s.Meta.Protocol.String(),
	}
	if f.RawHeaders {
		r.HeaderMap = &corev3.HeaderMap{}
	} else {
		r.Headers = make(map[string]string, m.Len())
	}
	add := func(name, value string) {
		if f.RawHeaders {
			r.HeaderMap.Headers = append(r.HeaderMap.Headers, &corev3.HeaderValue{Key: fromproto.Text(name), RawValue: []byte(value)})
			return
		}
		if old, there := r.Headers[name]; there {
			value = old + "," + value
		}
		r.Headers[name] = fromproto.Text(value)
	}
	for fd := range m.Fields() {
		if (f.Allowed == nil || f.Allowed.Match(fd.Name)) && !f.Disallowed.Match(fd.Name) {
			add(fd.Name, fd.Value)
		}
	}
	if q.data != nil {
		b := q.data.Bytes()
		if b = b[:min(len(b), q.body.Max)]; q.body.Bytes {
			r.RawBody = b
		} else {
			r.Body = fromproto.Text(string(b))
		}
		add(partialBody, strconv.FormatBool(q.partial))
	}
	return r
}

// decode reads envoy.service.auth.v3.CheckResponse. What is no message decides nothing.
func (d *decision) decode(raw []byte) {
	var pb authv3.CheckResponse
	if err := proto.Unmarshal(raw, &pb); err != nil {
		return
	}
	switch {
	case pb.GetStatus().GetCode() == 0:
		d.verdict = allowed
		d.allow(pb.GetOkResponse())
	case pb.GetErrorResponse() != nil:
		d.refuse(pb.GetErrorResponse())
	default:
		d.verdict = denied
		d.refuse(pb.GetDeniedResponse())
	}
	fields := pb.GetDynamicMetadata()
	if old := pb.GetOkResponse().GetDynamicMetadata(); old != nil { //nolint:staticcheck // deprecated, still sent
		fields = old
	}
	d.metadata = fields.AsMap()
}

func (d *decision) allow(ok *authv3.OkHttpResponse) {
	d.request = d.mutations(toRequest, ok.GetHeaders())
	d.response = d.mutations(toResponse, ok.GetResponseHeadersToAdd())
	for _, name := range ok.GetHeadersToRemove() {
		d.remove = append(d.remove, match.HeaderName(name))
	}
	for _, p := range ok.GetQueryParametersToSet() {
		d.invalid = d.invalid || !validQuery(p.Key) || !validQuery(p.Value)
		d.setQuery = append(d.setQuery, param{p.Key, p.Value})
	}
	d.cutQuery = ok.GetQueryParametersToRemove()
}

func (d *decision) refuse(r *authv3.DeniedHttpResponse) {
	d.reply = d.mutations(toReply, r.GetHeaders())
	d.body = r.GetBody()
	if code := int(r.GetStatus().GetCode()); code >= 200 && code < 600 {
		d.code = code
	}
}

// Where changes of fields apply. append_action counts for responses alone, as in Envoy.
type target uint8

const (
	toRequest target = iota
	toResponse
	toReply
)

// mutations converts changes of fields. One that cannot be written makes the decision
// invalid.
func (d *decision) mutations(to target, list []*corev3.HeaderValueOption) (out []mutation) {
	for _, o := range list {
		m := mutation{name: match.HeaderName(o.GetHeader().GetKey()), value: o.GetHeader().GetValue(), action: overwriteOrAdd}
		if len(o.GetHeader().GetRawValue()) > 0 {
			m.value = string(o.GetHeader().GetRawValue())
		}
		if m.name == "host" && to == toRequest {
			m.name = ":authority"
		}
		appends := o.GetAppend().GetValue() //nolint:staticcheck // deprecated, still sent
		switch {
		case appends && to == toRequest:
			m.action = joinIfPresent
		case appends && to == toResponse:
			m.action = appendOrAdd
		case o.Append == nil && to == toResponse: //nolint:staticcheck // as above
			m.action = action(o.AppendAction)
		}
		if m.action > joinIfPresent || !m.valid() || to != toRequest && m.name[0] == ':' {
			d.invalid = true
			continue
		}
		out = append(out, m)
	}
	return out
}
