package translate

import (
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"net/http"
	"strings"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	filesinkv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/health_check/event_sinks/file/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/mecha-mesh/mecha/proxy/cluster"
	"github.com/mecha-mesh/mecha/proxy/cluster/health"
	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/filter/fromproto"
)

// clusterHealth reads health_checks.
func clusterHealth(pb *clusterv3.Cluster, spec *cluster.Spec, p *filter.Parser) error {
	spec.IgnoreUnchecked = pb.GetCommonLbConfig().GetIgnoreNewHostsUntilFirstHc()
	switch n := len(pb.HealthChecks); {
	case n == 0:
		return nil
	case n > 1:
		return filter.At("health_checks", fmt.Errorf("there are %d, one at most can be obeyed", n))
	}
	one := pb.HealthChecks[0]
	if c := one.GetCustomHealthCheck(); c != nil {
		p.Warnings = append(p.Warnings, fmt.Sprintf("health_checks[0].custom_health_check: this build does not support %q, hosts are not checked", c.Name))
		return nil
	}
	if spec.Type == cluster.Aggregate {
		p.Warnings = append(p.Warnings, "health_checks has no effect, as in Envoy: it is the business of the clusters that this one consists of")
		return nil
	}
	c, err := healthCheck(one, p)
	if err != nil {
		return filter.AtIndex("health_checks", 0, err)
	}
	if c.GRPC != nil && spec.HTTP.Protocol == cluster.HTTP1Only {
		return filter.AtIndex("health_checks", 0, filter.At("grpc_health_check", errors.New("the cluster has no HTTP/2, see HttpProtocolOptions")))
	}
	spec.Checks = c
	return nil
}

func healthCheck(pb *corev3.HealthCheck, p *filter.Parser) (*health.Config, error) {
	if err := fromproto.Check(pb, p, fromproto.Fields{Used: []string{
		"timeout", "interval", "initial_jitter", "interval_jitter", "interval_jitter_percent", "unhealthy_threshold",
		"healthy_threshold", "alt_port", "reuse_connection", "no_traffic_interval", "no_traffic_healthy_interval",
		"unhealthy_interval", "unhealthy_edge_interval", "healthy_edge_interval", "event_log_path", "event_logger",
		"always_log_health_check_failures", "always_log_health_check_success", "tls_options",
		"transport_socket_match_criteria", "http_health_check", "tcp_health_check", "grpc_health_check",
	}, Ignored: []string{"event_service"}}); err != nil {
		return nil, err
	}
	c := &health.Config{
		IntervalJitterPercent: pb.IntervalJitterPercent, Unhealthy: pb.UnhealthyThreshold.GetValue(), Healthy: pb.HealthyThreshold.GetValue(),
		NoReuse: pb.ReuseConnection != nil && !pb.ReuseConnection.Value, LogFailures: pb.AlwaysLogHealthCheckFailures,
		LogSuccess: pb.AlwaysLogHealthCheckSuccess, ALPN: pb.TlsOptions.GetAlpnProtocols(),
	}
	if port := pb.AltPort.GetValue(); port > math.MaxUint16 {
		return nil, filter.At("alt_port", fmt.Errorf("%d is no port", port))
	}
	c.Port = uint16(pb.AltPort.GetValue())
	if m := pb.TransportSocketMatchCriteria; m != nil {
		c.SocketMatch = m.AsMap()
	}
	if err := healthTimes(pb, c); err != nil {
		return nil, err
	}
	if err := healthLogs(pb, c); err != nil {
		return nil, err
	}
	var err error
	switch k := pb.HealthChecker.(type) {
	case *corev3.HealthCheck_HttpHealthCheck_:
		c.HTTP, err = httpCheck(k.HttpHealthCheck, p)
		return c, filter.At("http_health_check", err)
	case *corev3.HealthCheck_TcpHealthCheck_:
		c.TCP, err = tcpCheck(k.TcpHealthCheck, p)
		return c, filter.At("tcp_health_check", err)
	case *corev3.HealthCheck_GrpcHealthCheck_:
		g := k.GrpcHealthCheck
		c.GRPC = &health.GRPC{Service: g.ServiceName, Authority: g.Authority}
		c.GRPC.Metadata, err = checkFields(g.InitialMetadata)
		return c, filter.At("grpc_health_check.initial_metadata", err)
	}
	return nil, errors.New("this build does not support this kind of health check")
}

func healthTimes(pb *corev3.HealthCheck, c *health.Config) error {
	for _, t := range []struct {
		name string
		pb   *durationpb.Duration
		into *time.Duration
		def  *time.Duration
	}{
		{"timeout", pb.Timeout, &c.Timeout, nil}, {"interval", pb.Interval, &c.Interval, nil},
		{"initial_jitter", pb.InitialJitter, &c.InitialJitter, nil}, {"interval_jitter", pb.IntervalJitter, &c.IntervalJitter, nil},
		{"no_traffic_interval", pb.NoTrafficInterval, &c.NoTraffic, nil},
		{"no_traffic_healthy_interval", pb.NoTrafficHealthyInterval, &c.NoTrafficHealthy, &c.NoTraffic},
		{"unhealthy_interval", pb.UnhealthyInterval, &c.UnhealthyInterval, &c.Interval},
		{"unhealthy_edge_interval", pb.UnhealthyEdgeInterval, &c.UnhealthyEdge, &c.UnhealthyInterval},
		{"healthy_edge_interval", pb.HealthyEdgeInterval, &c.HealthyEdge, &c.Interval},
	} {
		def := time.Duration(0)
		if t.def != nil {
			def = *t.def
		}
		if t.name == "no_traffic_interval" {
			def = time.Minute
		}
		var err error
		if *t.into, err = fromproto.Duration(t.pb, def); err != nil {
			return filter.At(t.name, err)
		}
	}
	return nil
}

// healthLogs reads where events go.
func healthLogs(pb *corev3.HealthCheck, c *health.Config) error {
	if pb.EventLogPath != "" {
		c.LogPaths = append(c.LogPaths, pb.EventLogPath)
	}
	for i, one := range pb.EventLogger {
		a, err := fromproto.Any(one.GetTypedConfig())
		var sink filesinkv3.HealthCheckEventFileSink
		switch {
		case err != nil:
		case a.Type != "envoy.extensions.health_check.event_sinks.file.v3.HealthCheckEventFileSink":
			err = fmt.Errorf("this build does not support %q", a.Type)
		default:
			err = fromproto.Unmarshal(a.Value, &sink)
		}
		if err != nil {
			return filter.AtIndex("event_logger", i, filter.At("typed_config", err))
		}
		c.LogPaths = append(c.LogPaths, sink.EventLogPath)
	}
	return nil
}

func httpCheck(pb *corev3.HealthCheck_HttpHealthCheck, p *filter.Parser) (*health.HTTP, error) {
	if err := fromproto.Check(pb, p, fromproto.Fields{Used: []string{
		"host", "path", "send", "receive", "response_buffer_size", "request_headers_to_add", "request_headers_to_remove",
		"expected_statuses", "retriable_statuses", "codec_client_type", "service_name_matcher", "method",
	}}); err != nil {
		return nil, err
	}
	h := &health.HTTP{Host: pb.Host, Path: pb.Path, BufferSize: 1024}
	if pb.Method != corev3.RequestMethod_METHOD_UNSPECIFIED {
		h.Method = pb.Method.String()
	}
	if h.Method == http.MethodConnect {
		return nil, filter.At("method", errors.New("CONNECT is no check"))
	}
	switch pb.CodecClientType {
	case typev3.CodecClientType_HTTP1:
	case typev3.CodecClientType_HTTP2:
		h.HTTP2 = true
	default:
		return nil, filter.At("codec_client_type", fmt.Errorf("this build does not support %s", pb.CodecClientType))
	}
	if v := pb.ResponseBufferSize; v != nil {
		h.BufferSize = int(min(v.Value, 1<<20))
	}
	var err error
	if h.Send, err = payload(pb.Send); err != nil {
		return nil, filter.At("send", err)
	}
	if h.Receive, err = payloads(pb.Receive); err != nil {
		return nil, filter.At("receive", err)
	}
	if h.Add, err = checkFields(pb.RequestHeadersToAdd); err != nil {
		return nil, filter.At("request_headers_to_add", err)
	}
	for _, name := range pb.RequestHeadersToRemove {
		h.Remove = append(h.Remove, strings.ToLower(name))
	}
	if h.Expected, err = statuses(pb.ExpectedStatuses); err != nil {
		return nil, filter.At("expected_statuses", err)
	}
	if h.Retriable, err = statuses(pb.RetriableStatuses); err != nil {
		return nil, filter.At("retriable_statuses", err)
	}
	if pb.ServiceNameMatcher != nil {
		m, err := fromproto.String(pb.ServiceNameMatcher)
		if err != nil {
			return nil, filter.At("service_name_matcher", err)
		}
		h.Service = &m
	}
	return h, nil
}

func statuses(pb []*typev3.Int64Range) (out []health.Range, err error) {
	for i, r := range pb {
		if r.Start >= r.End || r.Start < 100 || r.End > 600 {
			return nil, fmt.Errorf("[%d]: from %d up to %d is no range of status codes, which are 100 to 599", i, r.Start, r.End)
		}
		out = append(out, health.Range{From: r.Start, To: r.End})
	}
	return out, nil
}

func tcpCheck(pb *corev3.HealthCheck_TcpHealthCheck, p *filter.Parser) (t *health.TCP, err error) {
	if err := fromproto.Check(pb, p, fromproto.Fields{Used: []string{"send", "receive"}}); err != nil {
		return nil, err
	}
	t = &health.TCP{}
	if t.Send, err = payload(pb.Send); err != nil {
		return nil, filter.At("send", err)
	}
	if t.Receive, err = payloads(pb.Receive); err != nil {
		return nil, filter.At("receive", err)
	}
	return t, nil
}

func payloads(pb []*corev3.HealthCheck_Payload) (out [][]byte, err error) {
	for i, one := range pb {
		b, err := payload(one)
		if err != nil {
			return nil, fmt.Errorf("[%d]: %w", i, err)
		}
		out = append(out, b)
	}
	return out, nil
}

// payload is bytes, written in hexadecimal or as they are.
func payload(pb *corev3.HealthCheck_Payload) ([]byte, error) {
	if pb == nil {
		return nil, nil
	}
	if b := pb.GetBinary(); len(b) > 0 {
		return b, nil
	}
	b, err := hex.DecodeString(pb.GetText())
	if err != nil {
		return nil, fmt.Errorf("text: %q is not hexadecimal", pb.GetText())
	}
	return b, nil
}

// checkFields are header fields of a check. There is no request that formats could be
// about.
func checkFields(pb []*corev3.HeaderValueOption) (out []health.Field, err error) {
	for i, o := range pb {
		h := o.GetHeader()
		value := h.GetValue()
		if len(h.GetRawValue()) > 0 {
			value = string(h.RawValue)
		}
		if plain := strings.ReplaceAll(value, "%%", ""); strings.Contains(plain, "%") {
			return nil, fmt.Errorf("[%d]: this build does not support formats in fields of health checks: %q", i, value)
		}
		f := health.Field{Name: strings.ToLower(h.GetKey()), Value: strings.ReplaceAll(value, "%%", "%")}
		switch {
		case o.Append != nil: //nolint:staticcheck // deprecated, still sent
			f.Overwrite = !o.Append.Value //nolint:staticcheck // likewise
		case o.AppendAction == corev3.HeaderValueOption_OVERWRITE_IF_EXISTS_OR_ADD:
			f.Overwrite = true
		case o.AppendAction != corev3.HeaderValueOption_APPEND_IF_EXISTS_OR_ADD:
			return nil, fmt.Errorf("[%d]: append_action: this build does not support %s in health checks", i, o.AppendAction)
		}
		out = append(out, f)
	}
	return out, nil
}
