package translate

import (
	"errors"
	"fmt"
	"strings"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	httpv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/upstreams/http/v3"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/mecha-mesh/mecha/proxy/cluster"
	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/filter/fromproto"
	"github.com/mecha-mesh/mecha/proxy/transport"
)

const httpOptions = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"

func clusterHTTP(pb *clusterv3.Cluster, spec *cluster.Spec, p *filter.Parser) error {
	spec.HTTP = cluster.HTTPOptions{IdleTimeout: time.Hour, MaxHeadersCount: 100, MaxHeadersKB: 80}
	spec.HTTP.MaxRequests = pb.GetMaxRequestsPerConnection().GetValue() //nolint:staticcheck // deprecated, still sent
	if err := commonHTTP(pb.GetCommonHttpProtocolOptions(), spec, p); err != nil {
		return filter.At("common_http_protocol_options", err)
	}
	if err := http1(pb.GetHttpProtocolOptions(), spec, p); err != nil {
		return filter.At("http_protocol_options", err)
	}
	if err := autoNames(pb.GetUpstreamHttpProtocolOptions(), spec); err != nil { //nolint:staticcheck // deprecated, still sent
		return filter.At("upstream_http_protocol_options", err)
	}
	if o := pb.GetHttp2ProtocolOptions(); o != nil { //nolint:staticcheck // deprecated, still sent
		spec.HTTP.Protocol = cluster.HTTP2Only
		if err := http2(o, spec, p); err != nil {
			return filter.At("http2_protocol_options", err)
		}
	}
	if pb.GetProtocolSelection() == clusterv3.Cluster_USE_DOWNSTREAM_PROTOCOL { //nolint:staticcheck // deprecated, still sent
		spec.HTTP.Protocol = cluster.AsDownstream
	}
	said := pb.GetUpstreamHttpProtocolOptions() != nil //nolint:staticcheck // deprecated, still sent
	for key, a := range pb.TypedExtensionProtocolOptions {
		at := fmt.Sprintf("typed_extension_protocol_options[%s]", key)
		c, err := fromproto.Any(a)
		if err != nil {
			return filter.At(at, err)
		}
		if c.Type == halfOpenType {
			if err := halfOpen(c.Value, spec); err != nil {
				return filter.At(at, err)
			}
			continue
		}
		if c.Type == redisOptions {
			if err := redisCredentials(c.Value, spec, p); err != nil {
				return filter.At(at, err)
			}
			continue
		}
		if c.Type != httpOptions {
			return filter.At(at, fmt.Errorf("this build does not support %q", c.Type))
		}
		names, err := httpProtocolOptions(c.Value, spec, p)
		if err != nil {
			return filter.At(at, err)
		}
		said = names
	}
	return forwardNames(pb, spec, said)
}

// httpProtocolOptions takes the place of the fields of Cluster. names tells whether it says
// which names of requests are for TLS.
func httpProtocolOptions(raw []byte, spec *cluster.Spec, p *filter.Parser) (names bool, err error) {
	var o httpv3.HttpProtocolOptions
	if err := fromproto.Unmarshal(raw, &o); err != nil {
		return false, err
	}
	return o.UpstreamHttpProtocolOptions != nil, httpMessage(&o, spec, p)
}

func httpMessage(o *httpv3.HttpProtocolOptions, spec *cluster.Spec, p *filter.Parser) error {
	err := fromproto.Check(o, p, fromproto.Fields{
		Used: []string{"common_http_protocol_options", "explicit_http_config", "use_downstream_protocol_config", "auto_config", "upstream_http_protocol_options", "http_filters"},
	})
	if err != nil {
		return err
	}
	filters, err := fromproto.UpstreamFilters("http_filters", o.HttpFilters, p)
	if err != nil {
		return err
	}
	if len(o.HttpFilters) > 0 {
		spec.Filters = filters
	}
	spec.HTTP.Auto = cluster.AutoNames{}
	if err := autoNames(o.UpstreamHttpProtocolOptions, spec); err != nil {
		return filter.At("upstream_http_protocol_options", err)
	}
	if err := commonHTTP(o.CommonHttpProtocolOptions, spec, p); err != nil {
		return filter.At("common_http_protocol_options", err)
	}
	spec.HTTP.Protocol = cluster.HTTP1Only
	switch o := o.UpstreamProtocolOptions.(type) {
	case *httpv3.HttpProtocolOptions_ExplicitHttpConfig_:
		return filter.At("explicit_http_config", explicitHTTP(o.ExplicitHttpConfig, spec, p))
	case *httpv3.HttpProtocolOptions_UseDownstreamProtocolConfig:
		return filter.At("use_downstream_protocol_config", downstreamHTTP(o.UseDownstreamProtocolConfig, spec, p))
	case *httpv3.HttpProtocolOptions_AutoConfig:
		return filter.At("auto_config", autoHTTP(o.AutoConfig, spec, p))
	}
	return nil
}

// autoNames reads which names of requests are for TLS.
func autoNames(o *corev3.UpstreamHttpProtocolOptions, spec *cluster.Spec) error {
	if o == nil {
		return nil
	}
	name := strings.ToLower(o.OverrideAutoSniHeader)
	if strings.ContainsAny(name, " \t\r\n\x00") {
		return filter.At("override_auto_sni_header", fmt.Errorf("%q is not the name of a field", name))
	}
	spec.HTTP.Auto = cluster.AutoNames{SNI: o.AutoSni, SAN: o.AutoSanValidation, Header: name}
	return nil
}

// autoHTTP leaves the version to ALPN, which needs TLS. The sockets are known by then.
func autoHTTP(a *httpv3.HttpProtocolOptions_AutoHttpConfig, spec *cluster.Spec, p *filter.Parser) error {
	if a.Http3ProtocolOptions != nil || a.AlternateProtocolsCacheOptions != nil {
		return filter.At("http3_protocol_options", errors.New("this build does not speak HTTP/3"))
	}
	if !negotiates(spec.Socket) {
		return errors.New("the transport socket does not negotiate by ALPN")
	}
	for i := range spec.Sockets {
		if m := &spec.Sockets[i]; !negotiates(m.Socket) {
			return fmt.Errorf("the transport socket %q of transport_socket_matches does not negotiate by ALPN", m.Name)
		}
	}
	if err := http1(a.HttpProtocolOptions, spec, p); err != nil {
		return filter.At("http_protocol_options", err)
	}
	spec.HTTP.Protocol = cluster.Negotiated
	return filter.At("http2_protocol_options", http2(a.Http2ProtocolOptions, spec, p))
}

func negotiates(s transport.Socket) bool {
	switch s := s.(type) {
	case *transport.UpstreamTLS:
		return true
	case *transport.ProxyProtocol:
		return negotiates(s.Inner)
	case *transport.Internal:
		return negotiates(s.Socket)
	}
	return false
}

func explicitHTTP(e *httpv3.HttpProtocolOptions_ExplicitHttpConfig, spec *cluster.Spec, p *filter.Parser) error {
	if e.GetHttp3ProtocolOptions() != nil {
		return filter.At("http3_protocol_options", errors.New("this build does not speak HTTP/3"))
	}
	if err := http1(e.GetHttpProtocolOptions(), spec, p); err != nil {
		return filter.At("http_protocol_options", err)
	}
	if o := e.GetHttp2ProtocolOptions(); o != nil {
		spec.HTTP.Protocol = cluster.HTTP2Only
		return filter.At("http2_protocol_options", http2(o, spec, p))
	}
	return nil
}

func downstreamHTTP(d *httpv3.HttpProtocolOptions_UseDownstreamHttpConfig, spec *cluster.Spec, p *filter.Parser) error {
	if d.GetHttp3ProtocolOptions() != nil {
		return filter.At("http3_protocol_options", errors.New("this build does not speak HTTP/3"))
	}
	if err := http1(d.GetHttpProtocolOptions(), spec, p); err != nil {
		return filter.At("http_protocol_options", err)
	}
	spec.HTTP.Protocol = cluster.AsDownstream
	return filter.At("http2_protocol_options", http2(d.GetHttp2ProtocolOptions(), spec, p))
}

// http2 keeps the options only where they say something: most clusters never need them.
func http2(pb *corev3.Http2ProtocolOptions, spec *cluster.Spec, p *filter.Parser) error {
	if pb == nil {
		return nil
	}
	o, err := fromproto.HTTP2(pb, p, false)
	spec.HTTP.HTTP2 = &o
	return err
}

func commonHTTP(c *corev3.HttpProtocolOptions, spec *cluster.Spec, p *filter.Parser) error {
	if c == nil {
		return nil
	}
	err := fromproto.Check(c, p, fromproto.Fields{
		Used: []string{
			"idle_timeout", "max_connection_duration", "max_stream_duration", "max_headers_count", "max_response_headers_kb", "max_requests_per_connection",
		},
		Ignored: []string{"headers_with_underscores_action"}, // about requests of clients
	})
	if err != nil {
		return err
	}
	for _, d := range []struct {
		path string
		pb   *durationpb.Duration
		into *time.Duration
	}{
		{"idle_timeout", c.IdleTimeout, &spec.HTTP.IdleTimeout},
		{"max_connection_duration", c.MaxConnectionDuration, &spec.HTTP.MaxConnDuration},
		{"max_stream_duration", c.MaxStreamDuration, &spec.HTTP.MaxStreamDuration},
	} {
		if d.pb == nil {
			continue
		}
		if d.pb.AsDuration() < 0 {
			return filter.At(d.path, fmt.Errorf("%v is negative", d.pb.AsDuration()))
		}
		*d.into = d.pb.AsDuration()
	}
	if v := c.MaxHeadersCount; v != nil {
		spec.HTTP.MaxHeadersCount = v.Value
	}
	if v := c.MaxResponseHeadersKb; v != nil {
		spec.HTTP.MaxHeadersKB = v.Value
	}
	if v := c.MaxRequestsPerConnection; v != nil {
		spec.HTTP.MaxRequests = v.Value
	}
	return nil
}

func http1(o *corev3.Http1ProtocolOptions, spec *cluster.Spec, p *filter.Parser) error {
	if o == nil {
		return nil
	}
	err := fromproto.Check(o, p, fromproto.Fields{
		Used: []string{"header_key_format", "enable_trailers"},
		Ignored: []string{ // about requests of clients, or about Envoy's parsers
			"allow_absolute_url", "accept_http_10", "default_host_for_http_10", "allow_chunked_length", "use_balsa_parser",
			"override_stream_error_on_invalid_http_message", "allow_custom_methods", "ignore_http_11_upgrade",
		},
	})
	if err != nil {
		return err
	}
	names, err := fromproto.HeaderKeyFormat(o.HeaderKeyFormat, p)
	if err != nil {
		return filter.At("header_key_format", err)
	}
	h := &spec.HTTP
	h.EnableTrailers = o.EnableTrailers
	h.ProperCase, h.PreserveCase, h.ReasonPhrase, h.ProperOwn = names.Proper, names.Preserve, names.ReasonPhrase, names.ProperOwn
	return nil
}
