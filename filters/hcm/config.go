package hcm

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/filter/fromproto"
	"github.com/mecha-mesh/mecha/proxy/l7"
)

// fields is what of HttpConnectionManager this build obeys.
var fields = fromproto.Fields{
	Used: []string{
		"codec_type", "stat_prefix", "rds", "route_config", "scoped_routes", "tracing", "http_filters", "add_user_agent",
		"common_http_protocol_options", "http_protocol_options", "http2_protocol_options", "server_name", "server_header_transformation",
		"max_request_headers_kb", "stream_idle_timeout", "request_timeout", "request_headers_timeout",
		"drain_timeout", "delayed_close_timeout", "access_log", "use_remote_address", "xff_num_trusted_hops",
		"internal_address_config", "skip_xff_append", "via", "generate_request_id", "preserve_external_request_id",
		"always_set_request_id_in_response", "proxy_100_continue", "upgrade_configs", "normalize_path", "merge_slashes",
		"path_with_escaped_slashes_action", "strip_matching_host_port", "strip_any_host_port", "strip_trailing_host_dot",
		"append_x_forwarded_port", "forward_client_cert_details", "forward_client_cert_matcher", "set_current_client_cert_details", "access_log_options", "local_reply_config",
		"early_header_mutation_extensions", "original_ip_detection_extensions", "request_id_extension",
		"scheme_header_transformation", "flush_access_log_on_new_request", "access_log_flush_interval",
		"http1_safe_max_connection_duration", "drain_timeout_jitter", "proxy_status_config",
		"stream_error_on_invalid_http_message", "stream_flush_timeout", "forward_proto_config",
	},
	// What is accepted without effect concerns HTTP/2 and TLS: plain HTTP/1.1 behaves the same without it.
	Ignored: []string{
		"http3_protocol_options",
		"path_normalization_options", // has no effect in Envoy, either
		"append_local_overload", "add_proxy_protocol_connection_state",
		"record_route_resolution_stats",
	},
}

// parse decodes envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager.
func parse(raw []byte, p *filter.Parser) (*Config, error) {
	var pb hcmv3.HttpConnectionManager
	if err := proto.Unmarshal(raw, &pb); err != nil {
		return nil, fmt.Errorf("http_connection_manager: %w", err)
	}
	if err := fromproto.Check(&pb, p, fields); err != nil {
		return nil, err
	}
	if pb.StatPrefix == "" {
		return nil, filter.At("stat_prefix", errors.New("is required"))
	}
	spec := &l7.Spec{
		StatPrefix:            pb.StatPrefix,
		ServerName:            orString(pb.ServerName, "envoy"),
		ServerHeader:          l7.ServerHeader(pb.ServerHeaderTransformation),
		Via:                   pb.Via,
		AddUserAgent:          pb.AddUserAgent.GetValue(),
		UseRemoteAddress:      pb.UseRemoteAddress.GetValue(),
		TrustedHops:           pb.XffNumTrustedHops,
		SkipXFFAppend:         pb.SkipXffAppend,
		AppendXForwardedPort:  pb.AppendXForwardedPort,
		KeepExternalRequestID: pb.PreserveExternalRequestId,
		NoRequestID:           pb.GenerateRequestId != nil && !pb.GenerateRequestId.Value,
		RequestIDInResponse:   pb.AlwaysSetRequestIdInResponse,
		Proxy100Continue:      pb.Proxy_100Continue,
		KeepInvalid:           pb.StreamErrorOnInvalidHttpMessage.GetValue(),
		SafeConnDuration:      pb.Http1SafeMaxConnectionDuration,
		NormalizePath:         pb.NormalizePath.GetValue(),
		MergeSlashes:          pb.MergeSlashes,
		StripDot:              pb.StripTrailingHostDot,
		MaxHeadersKB:          60,
		MaxHeadersCount:       100,
	}
	if v := pb.MaxRequestHeadersKb; v != nil {
		if v.Value == 0 || v.Value > 8192 {
			return nil, filter.At("max_request_headers_kb", fmt.Errorf("%d is not in 1..8192", v.Value))
		}
		spec.MaxHeadersKB = v.Value
	}
	for _, step := range []func(*hcmv3.HttpConnectionManager, *l7.Spec, *filter.Parser) error{
		parseCodec, parsePaths, parseClientCert, parseAddresses, parseDetection, parseEarly, parseScheme, parseForwardProto, parseRequestID, parseLocalReply, parseProxyStatus, parseCommon, parseTimeouts, parseHTTP1, parseUpgrades, parseRoutes, parseFilters, parseLogs, parseTracing,
	} {
		if err := step(&pb, spec, p); err != nil {
			return nil, err
		}
	}
	return &Config{spec: spec, slot: p.Registry.Slot}, nil
}

func orString(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}

func parseCodec(pb *hcmv3.HttpConnectionManager, spec *l7.Spec, p *filter.Parser) (err error) {
	switch pb.CodecType {
	case hcmv3.HttpConnectionManager_AUTO:
		spec.Codec = l7.AnyHTTP
	case hcmv3.HttpConnectionManager_HTTP1:
		spec.Codec = l7.OnlyHTTP1
	case hcmv3.HttpConnectionManager_HTTP2:
		spec.Codec = l7.OnlyHTTP2
	default:
		return filter.At("codec_type", fmt.Errorf("this build does not speak %s", pb.CodecType))
	}
	spec.HTTP2, err = fromproto.HTTP2(pb.Http2ProtocolOptions, p, pb.StreamErrorOnInvalidHttpMessage.GetValue())
	return filter.At("http2_protocol_options", err)
}

// parseCommon reads what of common_http_protocol_options is not a time.
func parseCommon(pb *hcmv3.HttpConnectionManager, spec *l7.Spec, p *filter.Parser) error {
	c := pb.CommonHttpProtocolOptions
	if c == nil {
		return nil
	}
	err := fromproto.Check(c, p, fromproto.Fields{
		Used: []string{
			"idle_timeout", "max_connection_duration", "max_headers_count", "max_stream_duration",
			"headers_with_underscores_action", "max_requests_per_connection", "max_connection_duration_jitter",
		},
		Ignored: []string{"max_response_headers_kb"}, // of upstreams
	})
	if err != nil {
		return filter.At("common_http_protocol_options", err)
	}
	switch c.HeadersWithUnderscoresAction {
	case corev3.HttpProtocolOptions_REJECT_REQUEST:
		spec.Underscores = l7.RejectUnderscores
	case corev3.HttpProtocolOptions_DROP_HEADER:
		spec.Underscores = l7.DropUnderscores
	}
	if n := c.MaxHeadersCount; n != nil {
		spec.MaxHeadersCount = n.Value
	}
	spec.MaxConnJitter = c.GetMaxConnectionDurationJitter().GetValue() / 100
	spec.MaxRequests = c.GetMaxRequestsPerConnection().GetValue()
	return nil
}

func parsePaths(pb *hcmv3.HttpConnectionManager, spec *l7.Spec, _ *filter.Parser) error {
	switch pb.PathWithEscapedSlashesAction {
	case hcmv3.HttpConnectionManager_REJECT_REQUEST:
		spec.EscapedSlashes = l7.RejectRequest
	case hcmv3.HttpConnectionManager_UNESCAPE_AND_REDIRECT:
		spec.EscapedSlashes = l7.UnescapeAndRedirect
	case hcmv3.HttpConnectionManager_UNESCAPE_AND_FORWARD:
		spec.EscapedSlashes = l7.UnescapeAndForward
	}
	switch {
	case pb.StripMatchingHostPort && pb.GetStripAnyHostPort():
		return filter.At("strip_any_host_port", errors.New("excludes strip_matching_host_port"))
	case pb.StripMatchingHostPort:
		spec.StripPort = l7.StripMatchingPort
	case pb.GetStripAnyHostPort():
		spec.StripPort = l7.StripAnyPort
	}
	return nil
}

// parseAddresses makes the test for internal addresses. As in Envoy, nothing is
// internal unless the configuration says so.
func parseAddresses(pb *hcmv3.HttpConnectionManager, spec *l7.Spec, _ *filter.Parser) error {
	c := pb.InternalAddressConfig
	if c == nil {
		return nil
	}
	var ranges []netip.Prefix
	for i, r := range c.CidrRanges {
		addr, err := netip.ParseAddr(r.AddressPrefix)
		if err != nil {
			return filter.At("internal_address_config", filter.AtIndex("cidr_ranges", i, err))
		}
		prefix, err := addr.Prefix(int(r.PrefixLen.GetValue()))
		if err != nil {
			return filter.At("internal_address_config", filter.AtIndex("cidr_ranges", i, err))
		}
		ranges = append(ranges, prefix)
	}
	if len(ranges) == 0 {
		spec.IsInternal = isPrivate
		return nil
	}
	spec.IsInternal = func(a netip.Addr) bool {
		for _, r := range ranges {
			if r.Contains(a) {
				return true
			}
		}
		return false
	}
	return nil
}

func parseTimeouts(pb *hcmv3.HttpConnectionManager, spec *l7.Spec, _ *filter.Parser) error {
	common := pb.CommonHttpProtocolOptions
	for _, d := range []struct {
		path      string
		pb        *durationpb.Duration
		into      *time.Duration
		otherwise time.Duration
	}{
		{"stream_idle_timeout", pb.StreamIdleTimeout, &spec.StreamIdleTimeout, 5 * time.Minute},
		{"stream_flush_timeout", pb.StreamFlushTimeout, &spec.StreamFlushTimeout, 0},
		{"request_timeout", pb.RequestTimeout, &spec.RequestTimeout, 0},
		{"request_headers_timeout", pb.RequestHeadersTimeout, &spec.RequestHeadersTimeout, 0},
		{"drain_timeout", pb.DrainTimeout, &spec.DrainTimeout, 5 * time.Second},
		{"delayed_close_timeout", pb.DelayedCloseTimeout, &spec.DelayedClose, time.Second},
		{"common_http_protocol_options.idle_timeout", common.GetIdleTimeout(), &spec.IdleTimeout, time.Hour},
		{"common_http_protocol_options.max_connection_duration", common.GetMaxConnectionDuration(), &spec.MaxConnDuration, 0},
		{"common_http_protocol_options.max_stream_duration", common.GetMaxStreamDuration(), &spec.MaxStreamDuration, 0},
	} {
		*d.into = d.otherwise
		if d.pb == nil {
			continue
		}
		if err := d.pb.CheckValid(); err != nil || d.pb.AsDuration() < 0 {
			return filter.At(d.path, fmt.Errorf("%v is not a duration of zero or more", d.pb.AsDuration()))
		}
		*d.into = d.pb.AsDuration()
	}
	for path, jitter := range map[string]float64{
		"drain_timeout_jitter": pb.DrainTimeoutJitter.GetValue(),
		"common_http_protocol_options.max_connection_duration_jitter": common.GetMaxConnectionDurationJitter().GetValue(),
	} {
		if !(jitter >= 0 && jitter <= 100) {
			return filter.At(path, fmt.Errorf("%v is not in 0..100", jitter))
		}
	}
	spec.StreamFlushSet = pb.StreamFlushTimeout != nil
	spec.DrainJitter = pb.DrainTimeoutJitter.GetValue() / 100
	return nil
}

func parseHTTP1(pb *hcmv3.HttpConnectionManager, spec *l7.Spec, p *filter.Parser) error {
	o := pb.HttpProtocolOptions
	if o == nil {
		spec.HTTP1.AllowAbsoluteURL = true
		return nil
	}
	err := fromproto.Check(o, p, fromproto.Fields{
		Used: []string{
			"allow_absolute_url", "accept_http_10", "default_host_for_http_10", "header_key_format", "enable_trailers",
			"allow_chunked_length", "allow_custom_methods", "override_stream_error_on_invalid_http_message",
		},
		Ignored: []string{"send_fully_qualified_url", "use_balsa_parser"},
	})
	if err != nil {
		return filter.At("http_protocol_options", err)
	}
	if v := o.OverrideStreamErrorOnInvalidHttpMessage; v != nil {
		spec.KeepInvalid = v.Value
	}
	spec.HTTP1 = l7.HTTP1{
		AcceptHTTP10:       o.AcceptHttp_10,
		DefaultHost:        o.DefaultHostForHttp_10,
		AllowAbsoluteURL:   o.AllowAbsoluteUrl == nil || o.AllowAbsoluteUrl.Value,
		EnableTrailers:     o.EnableTrailers,
		AllowChunkedLength: o.AllowChunkedLength,
		AllowCustomMethods: o.AllowCustomMethods,
	}
	names, err := fromproto.HeaderKeyFormat(o.HeaderKeyFormat, p)
	if err != nil {
		return filter.At("http_protocol_options.header_key_format", err)
	}
	spec.HTTP1.ProperCase, spec.HTTP1.PreserveCase, spec.HTTP1.ProperOwn = names.Proper, names.Preserve, names.ProperOwn
	return nil
}

func parseUpgrades(pb *hcmv3.HttpConnectionManager, spec *l7.Spec, p *filter.Parser) error {
	for i, u := range pb.UpgradeConfigs {
		own, err := httpFilters("filters", u.Filters, p)
		if err != nil {
			return filter.AtIndex("upgrade_configs", i, err)
		}
		spec.Upgrades = append(spec.Upgrades, l7.Upgrade{
			Type: strings.ToLower(u.UpgradeType), Enabled: u.Enabled == nil || u.Enabled.Value, Filters: own,
		})
	}
	return nil
}

func parseRoutes(pb *hcmv3.HttpConnectionManager, spec *l7.Spec, p *filter.Parser) error {
	switch r := pb.RouteSpecifier.(type) {
	case *hcmv3.HttpConnectionManager_RouteConfig:
		raw, err := proto.Marshal(r.RouteConfig)
		if err != nil {
			return filter.At("route_config", err)
		}
		spec.Routes, err = p.Routes(raw, p)
		return filter.At("route_config", err)
	case *hcmv3.HttpConnectionManager_ScopedRoutes:
		var err error
		spec.Scopes, err = fromproto.ScopedRoutes(r.ScopedRoutes, spec.StatPrefix, p)
		return filter.At("scoped_routes", err)
	case *hcmv3.HttpConnectionManager_Rds:
		if r.Rds.RouteConfigName == "" {
			return filter.At("rds.route_config_name", errors.New("is required"))
		}
		if err := fromproto.ResourceName(r.Rds.RouteConfigName); err != nil {
			return filter.At("rds.route_config_name", err)
		}
		from, err := fromproto.ConfigSource(r.Rds.ConfigSource)
		if err != nil {
			return filter.At("rds.config_source", err)
		}
		from.StatPrefix = spec.StatPrefix
		spec.RDS = r.Rds.RouteConfigName
		p.RDS = append(p.RDS, spec.RDS)
		if p.RDSFrom == nil {
			p.RDSFrom = map[string]filter.ConfigSource{}
		}
		p.RDSFrom[spec.RDS] = from
		return nil
	}
	return filter.At("route_specifier", errors.New("one of route_config, rds, scoped_routes is required"))
}

func parseFilters(pb *hcmv3.HttpConnectionManager, spec *l7.Spec, p *filter.Parser) (err error) {
	spec.Filters, err = httpFilters("http_filters", pb.HttpFilters, p)
	return err
}

// httpFilters converts the filters of a chain, a field of that name.
func httpFilters(field string, list []*hcmv3.HttpFilter, p *filter.Parser) (out []l7.Filter, err error) {
	for i, f := range list {
		if f.Name == "" {
			return nil, filter.AtIndex(field, i, filter.At("name", errors.New("is required")))
		}
		if d := f.GetConfigDiscovery(); d != nil {
			def, err := fromproto.HTTPDiscovery(f.Name, d, p)
			if err != nil {
				return nil, filter.AtIndex(field, i, filter.At("config_discovery", err))
			}
			out = append(out, l7.Filter{Name: f.Name, Factory: def, Disabled: f.Disabled, Discovered: true})
			continue
		}
		c, err := fromproto.Any(f.GetTypedConfig())
		if err != nil {
			return nil, filter.AtIndex(field, i, filter.At("typed_config", err))
		}
		factory, err := p.HTTP(c)
		var unknown *filter.ErrUnknownType
		if errors.As(err, &unknown) && f.IsOptional {
			p.Warnings = append(p.Warnings, fmt.Sprintf("%s[%d]: optional filter left out: %v", field, i, err))
			continue
		}
		if err != nil {
			return nil, filter.AtIndex(field, i, filter.At("typed_config", err))
		}
		out = append(out, l7.Filter{Name: f.Name, Factory: factory, Disabled: f.Disabled})
	}
	return out, nil
}

// isPrivate are the addresses that are internal where the configuration has no ranges:
// those of RFC 1918, the locally assigned half of RFC 4193, and loopback, of which only
// 127.0.0.1 counts in IPv4.
func isPrivate(a netip.Addr) bool {
	switch a = a.Unmap(); {
	case a.IsLoopback():
		return a.Is6() || a == netip.AddrFrom4([4]byte{127, 0, 0, 1})
	case a.Is6():
		return a.As16()[0] == 0xfd
	}
	return a.IsPrivate()
}
