package extproc

import (
	"errors"
	"fmt"
	"time"

	procv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/ext_proc/v3"

	"github.com/mecha-mesh/mecha/proxy/attributes"
	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/filter/fromproto"
)

// The times where nobody says.
const (
	defaultTimeout    = 200 * time.Millisecond // message_timeout
	defaultCloseAfter = 5 * time.Second        // deferred_close_timeout
)

// parse decodes envoy.extensions.filters.http.ext_proc.v3.ExternalProcessor.
func parse(raw []byte, p *filter.Parser) (*Config, error) {
	var pb procv3.ExternalProcessor
	if err := fromproto.Unmarshal(raw, &pb); err != nil {
		return nil, err
	}
	err := fromproto.Check(&pb, p, fromproto.Fields{Used: []string{
		"grpc_service", "failure_mode_allow", "processing_mode", "request_attributes", "response_attributes", "message_timeout",
		"stat_prefix", "mutation_rules", "max_message_timeout", "forward_rules", "allow_mode_override",
		"disable_immediate_response", "metadata_options", "observability_mode", "disable_clear_route_cache",
		"route_cache_action", "deferred_close_timeout", "allowed_override_modes", "status_on_error",
	}, Ignored: []string{"filter_metadata", "emit_client_span"}})
	if err != nil {
		return nil, err
	}
	c := &Config{
		FailureAllow: pb.FailureModeAllow, StatusOnError: 500, StatPrefix: pb.StatPrefix, AllowOverride: pb.AllowModeOverride,
		NoImmediate: pb.DisableImmediateResponse, Observe: pb.ObservabilityMode, Clear: clearing(pb.RouteCacheAction),
	}
	if pb.StatusOnError != nil {
		c.StatusOnError = int(pb.StatusOnError.Code)
	}
	if pb.DisableClearRouteCache {
		if c.Clear != asAnswered {
			return nil, filter.At("disable_clear_route_cache", errors.New("cannot be set together with route_cache_action"))
		}
		c.Clear = never
	}
	if pb.GrpcService == nil {
		return nil, filter.At("grpc_service", errors.New("is required"))
	}
	if c.Service, err = fromproto.GRPCService(pb.GrpcService, p); err != nil {
		return nil, filter.At("grpc_service", err)
	}
	if c.Mode, err = parseMode(pb.ProcessingMode, pb.FailureModeAllow); err != nil {
		return nil, filter.At("processing_mode", err)
	}
	for i, m := range pb.AllowedOverrideModes {
		mode, err := parseMode(m, pb.FailureModeAllow)
		if err != nil {
			return nil, filter.AtIndex("allowed_override_modes", i, err)
		}
		c.Overrides = append(c.Overrides, mode)
	}
	return c, c.details(&pb, p)
}

// details converts what is told and what is taken.
func (c *Config) details(pb *procv3.ExternalProcessor, p *filter.Parser) (err error) {
	if c.Timeout, err = fromproto.Duration(pb.MessageTimeout, defaultTimeout); err != nil {
		return filter.At("message_timeout", err)
	}
	if c.MaxTimeout, err = fromproto.Duration(pb.MaxMessageTimeout, 0); err != nil {
		return filter.At("max_message_timeout", err)
	}
	if c.CloseAfter, err = fromproto.Duration(pb.DeferredCloseTimeout, defaultCloseAfter); err != nil {
		return filter.At("deferred_close_timeout", err)
	}
	if c.Rules, err = fromproto.MutationRules(pb.MutationRules); err != nil {
		return filter.At("mutation_rules", err)
	}
	if f := pb.ForwardRules; f != nil {
		if c.Allowed, err = fromproto.Strings(f.AllowedHeaders); err != nil {
			return filter.At("forward_rules.allowed_headers", err)
		}
		if c.Disallowed, err = fromproto.Strings(f.DisallowedHeaders); err != nil {
			return filter.At("forward_rules.disallowed_headers", err)
		}
	}
	if c.RequestAttributes, err = names("request_attributes", pb.RequestAttributes); err != nil {
		return err
	}
	if c.ResponseAttributes, err = names("response_attributes", pb.ResponseAttributes); err != nil {
		return err
	}
	forward, receive, err := namespaces(pb.MetadataOptions, p)
	if err != nil {
		return filter.At("metadata_options", err)
	}
	c.Forward, c.Receive = forward, receive
	return nil
}

// names checks names of attributes.
func names(field string, list []string) ([]string, error) {
	for i, n := range list {
		if !attributes.IsObject(n) {
			return nil, filter.AtIndex(field, i, fmt.Errorf("%q is no attribute", n))
		}
	}
	return list, nil
}

func namespaces(pb *procv3.MetadataOptions, p *filter.Parser) (forward, receive []string, err error) {
	if pb == nil {
		return nil, nil, nil
	}
	if err := fromproto.Check(pb, p, fromproto.Fields{Used: []string{"forwarding_namespaces", "receiving_namespaces"}}); err != nil {
		return nil, nil, err
	}
	for field, m := range map[string]*procv3.MetadataOptions_MetadataNamespaces{
		"forwarding_namespaces": pb.ForwardingNamespaces, "receiving_namespaces": pb.ReceivingNamespaces,
	} {
		if m == nil {
			continue
		}
		if err := fromproto.Check(m, p, fromproto.Fields{Used: []string{"untyped"}}); err != nil {
			return nil, nil, filter.At(field, err)
		}
	}
	return pb.ForwardingNamespaces.GetUntyped(), pb.ReceivingNamespaces.GetUntyped(), nil
}

// parseMode converts a mode of the configuration.
func parseMode(pb *procv3.ProcessingMode, failureAllow bool) (Mode, error) {
	for _, side := range []struct {
		body, trailers string
		mode           procv3.ProcessingMode_BodySendMode
		send           procv3.ProcessingMode_HeaderSendMode
	}{
		{"request_body_mode", "request_trailer_mode", pb.GetRequestBodyMode(), pb.GetRequestTrailerMode()},
		{"response_body_mode", "response_trailer_mode", pb.GetResponseBodyMode(), pb.GetResponseTrailerMode()},
	} {
		switch side.mode {
		case procv3.ProcessingMode_GRPC:
			return Mode{}, filter.At(side.body, errors.New("this build does not support GRPC"))
		case procv3.ProcessingMode_FULL_DUPLEX_STREAMED:
			if side.send != procv3.ProcessingMode_SEND {
				return Mode{}, filter.At(side.trailers, fmt.Errorf("must be SEND where %s is FULL_DUPLEX_STREAMED", side.body))
			}
			if failureAllow {
				return Mode{}, filter.At(side.body, errors.New("FULL_DUPLEX_STREAMED cannot be set together with failure_mode_allow"))
			}
		}
	}
	return modeOf(pb), nil
}

// modeOf converts a mode; one that this build does not have is none.
func modeOf(pb *procv3.ProcessingMode) (m Mode) {
	m.Request = Side{
		Head: pb.GetRequestHeaderMode() != procv3.ProcessingMode_SKIP, Trailers: pb.GetRequestTrailerMode() == procv3.ProcessingMode_SEND,
		Body: bodyMode(pb.GetRequestBodyMode()),
	}
	m.Response = Side{
		Head: pb.GetResponseHeaderMode() != procv3.ProcessingMode_SKIP, Trailers: pb.GetResponseTrailerMode() == procv3.ProcessingMode_SEND,
		Body: bodyMode(pb.GetResponseBodyMode()),
	}
	return m
}

func bodyMode(pb procv3.ProcessingMode_BodySendMode) BodyMode {
	if pb > procv3.ProcessingMode_FULL_DUPLEX_STREAMED || pb < 0 {
		return NoBody
	}
	return BodyMode(pb)
}

// parseRoute decodes envoy.extensions.filters.http.ext_proc.v3.ExtProcPerRoute.
func parseRoute(raw []byte, p *filter.Parser) (*Config, error) {
	var pb procv3.ExtProcPerRoute
	if err := fromproto.Unmarshal(raw, &pb); err != nil {
		return nil, err
	}
	r := &Route{Disabled: pb.GetDisabled()}
	o := pb.GetOverrides()
	if o == nil {
		return &Config{Route: r}, nil
	}
	return &Config{Route: r}, filter.At("overrides", r.overrides(o, p))
}

func (r *Route) overrides(o *procv3.ExtProcOverrides, p *filter.Parser) error {
	err := fromproto.Check(o, p, fromproto.Fields{
		Used: []string{
			"processing_mode", "request_attributes", "response_attributes", "grpc_service", "metadata_options",
			"grpc_initial_metadata", "failure_mode_allow",
		},
		Ignored: []string{"emit_client_span"},
	})
	if err != nil {
		return err
	}
	if o.ProcessingMode != nil {
		m, err := parseMode(o.ProcessingMode, o.FailureModeAllow.GetValue())
		if err != nil {
			return filter.At("processing_mode", err)
		}
		r.Mode = &m
	}
	if o.GrpcService != nil {
		t, err := fromproto.GRPCService(o.GrpcService, p)
		if err != nil {
			return filter.At("grpc_service", err)
		}
		r.Service = &t
	}
	if r.Metadata, err = fromproto.InitialMetadata("grpc_initial_metadata", o.GrpcInitialMetadata); err != nil {
		return err
	}
	if o.FailureModeAllow != nil {
		r.FailureAllow = &o.FailureModeAllow.Value
	}
	if r.RequestAttributes, err = names("request_attributes", o.RequestAttributes); err != nil {
		return err
	}
	if r.ResponseAttributes, err = names("response_attributes", o.ResponseAttributes); err != nil {
		return err
	}
	forward, receive, err := namespaces(o.MetadataOptions, p)
	if err != nil {
		return filter.At("metadata_options", err)
	}
	if o.MetadataOptions.GetForwardingNamespaces() != nil {
		r.Forward = &forward
	}
	if o.MetadataOptions.GetReceivingNamespaces() != nil {
		r.Receive = &receive
	}
	return nil
}
