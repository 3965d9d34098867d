package hcm

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"

	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	earlyv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/http/early_header_mutation/header_mutation/v3"
	customv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/http/original_ip_detection/custom_header/v3"
	xffv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/http/original_ip_detection/xff/v3"
	uuidv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/request_id/uuid/v3"

	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/filter/fromproto"
	"github.com/mecha-mesh/mecha/proxy/l7"
	"github.com/mecha-mesh/mecha/proxy/match"
	"github.com/mecha-mesh/mecha/proxy/mutate"
	"github.com/mecha-mesh/mecha/proxy/trace"
)

// The extensions of this build.
const (
	earlyMutation = "envoy.extensions.http.early_header_mutation.header_mutation.v3.HeaderMutation"
	customHeader  = "envoy.extensions.http.original_ip_detection.custom_header.v3.CustomHeaderConfig"
	xffAddress    = "envoy.extensions.http.original_ip_detection.xff.v3.XffConfig"
	uuidID        = "envoy.extensions.request_id.uuid.v3.UuidRequestIdConfig"
)

// parseEarly converts early_header_mutation_extensions.
func parseEarly(pb *hcmv3.HttpConnectionManager, spec *l7.Spec, p *filter.Parser) error {
	for i, e := range pb.EarlyHeaderMutationExtensions {
		at := func(err error) error {
			return filter.AtIndex("early_header_mutation_extensions", i, filter.At("typed_config", err))
		}
		c, err := fromproto.Any(e.GetTypedConfig())
		if err != nil {
			return at(err)
		}
		if c.Type != earlyMutation {
			return at(fmt.Errorf("this build does not support the early header mutation %q", c.Type))
		}
		var m earlyv3.HeaderMutation
		if err := fromproto.Unmarshal(c.Value, &m); err != nil {
			return at(err)
		}
		if err := fromproto.Check(&m, p, fromproto.Fields{Used: []string{"mutations"}}); err != nil {
			return at(err)
		}
		list, err := fromproto.HeaderMutations(mutate.Request, "mutations", m.Mutations)
		if err != nil {
			return at(err)
		}
		spec.Early = append(spec.Early, func(s *filter.Stream) { list.Apply(&s.Request, s) })
	}
	return nil
}

// clientCertRule is the type of the actions of forward_client_cert_matcher.
const clientCertRule = "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager.ForwardClientCertConfig"

// parseClientCert converts what becomes of x-forwarded-client-cert.
func parseClientCert(pb *hcmv3.HttpConnectionManager, spec *l7.Spec, p *filter.Parser) error {
	spec.ClientCert = toClientCertRule(pb.ForwardClientCertDetails, pb.SetCurrentClientCertDetails)
	if pb.ForwardClientCertMatcher == nil {
		return nil
	}
	t, err := fromproto.Tree(pb.ForwardClientCertMatcher, p, fromproto.TreeOptions[*filter.Stream, *l7.ClientCertRule]{
		Input: fromproto.HTTPInput,
		Action: func(_ string, c filter.Any) (*l7.ClientCertRule, error) {
			if c.Type != clientCertRule {
				return nil, filter.At("typed_config", fmt.Errorf("this build does not support the action %q", c.Type))
			}
			var pb hcmv3.HttpConnectionManager_ForwardClientCertConfig
			if err := fromproto.Unmarshal(c.Value, &pb); err != nil {
				return nil, filter.At("typed_config", err)
			}
			err := fromproto.Check(&pb, p, fromproto.Fields{Used: []string{"forward_client_cert_details", "set_current_client_cert_details"}})
			r := toClientCertRule(pb.ForwardClientCertDetails, pb.SetCurrentClientCertDetails)
			return &r, filter.At("typed_config", err)
		},
	})
	if err != nil {
		return filter.At("forward_client_cert_matcher", err)
	}
	spec.ChooseClientCert = func(s *filter.Stream) *l7.ClientCertRule {
		r, _ := t.Find(s)
		return r
	}
	return nil
}

func toClientCertRule(mode hcmv3.HttpConnectionManager_ForwardClientCertDetails, d *hcmv3.HttpConnectionManager_SetCurrentClientCertDetails) l7.ClientCertRule {
	r := l7.ClientCertRule{Mode: l7.ForwardClientCert(mode)}
	if d != nil {
		r.Details = l7.ClientCertDetails{Cert: d.Cert, Chain: d.Chain, Subject: d.Subject.GetValue(), URI: d.Uri, DNS: d.Dns}
	}
	return r
}

// parseDetection converts original_ip_detection_extensions.
func parseDetection(pb *hcmv3.HttpConnectionManager, spec *l7.Spec, p *filter.Parser) error {
	const field = "original_ip_detection_extensions"
	if len(pb.OriginalIpDetectionExtensions) == 0 {
		return nil
	}
	switch {
	case pb.UseRemoteAddress.GetValue():
		return filter.At(field, errors.New("excludes use_remote_address"))
	case pb.XffNumTrustedHops > 0:
		return filter.At(field, errors.New("excludes xff_num_trusted_hops"))
	}
	for i, e := range pb.OriginalIpDetectionExtensions {
		at := func(err error) error { return filter.AtIndex(field, i, filter.At("typed_config", err)) }
		c, err := fromproto.Any(e.GetTypedConfig())
		if err != nil {
			return at(err)
		}
		var f func(*filter.Stream) l7.Detection
		switch c.Type {
		case customHeader:
			f, err = customDetection(c.Value, p)
		case xffAddress:
			f, err = xffDetection(c.Value, p)
		default:
			err = fmt.Errorf("this build does not support the detection %q", c.Type)
		}
		if err != nil {
			return at(err)
		}
		spec.Detect = append(spec.Detect, f)
	}
	return nil
}

func customDetection(raw []byte, p *filter.Parser) (func(*filter.Stream) l7.Detection, error) {
	var pb customv3.CustomHeaderConfig
	if err := fromproto.Unmarshal(raw, &pb); err != nil {
		return nil, err
	}
	err := fromproto.Check(&pb, p, fromproto.Fields{Used: []string{"header_name", "allow_extension_to_set_address_as_trusted", "reject_with_status"}})
	if err != nil {
		return nil, err
	}
	name, failed := strings.ToLower(pb.HeaderName), l7.Detection{}
	if s := pb.RejectWithStatus; s != nil {
		if failed.Reject = int(s.Code); failed.Reject < 400 || failed.Reject > 511 {
			failed.Reject = 403
		}
	}
	found := l7.Detection{Trusted: pb.AllowExtensionToSetAddressAsTrusted}
	return func(s *filter.Stream) l7.Detection {
		addr, err := netip.ParseAddr(s.Request.Get(name))
		if err != nil {
			return failed
		}
		d := found
		d.Addr = addr
		return d
	}, nil
}

func xffDetection(raw []byte, p *filter.Parser) (func(*filter.Stream) l7.Detection, error) {
	var pb xffv3.XffConfig
	if err := fromproto.Unmarshal(raw, &pb); err != nil {
		return nil, err
	}
	err := fromproto.Check(&pb, p, fromproto.Fields{Used: []string{"xff_num_trusted_hops", "xff_trusted_cidrs", "skip_xff_append"}})
	if err != nil {
		return nil, err
	}
	appends := pb.SkipXffAppend != nil && !pb.SkipXffAppend.Value
	if pb.XffTrustedCidrs == nil {
		return func(s *filter.Stream) l7.Detection {
			addr, single := l7.LastTrusted(&s.Request, pb.XffNumTrustedHops)
			return l7.Detection{Addr: addr, Trusted: single, Append: appends}
		}, nil
	}
	if pb.XffNumTrustedHops > 0 {
		return nil, filter.At("xff_trusted_cidrs", errors.New("excludes xff_num_trusted_hops"))
	}
	trusted, err := fromproto.CIDRs("cidrs", pb.XffTrustedCidrs.Cidrs)
	if err != nil {
		return nil, filter.At("xff_trusted_cidrs", err)
	}
	return func(s *filter.Stream) l7.Detection { return trustedDetection(s, trusted, appends) }, nil
}

// trustedDetection finds the last address that is none of the trusted proxies', or the
// first one if all are.
func trustedDetection(s *filter.Stream, trusted match.CIDRs, appends bool) l7.Detection {
	if !trusted.Match(s.Conn.Remote.Addr()) {
		return l7.Detection{Append: true} // whatever was configured: it is the only one known
	}
	for hops := uint32(0); ; hops++ {
		addr, single := l7.LastTrusted(&s.Request, hops)
		if !addr.IsValid() {
			return l7.Detection{Append: appends}
		}
		if first, _ := l7.LastTrusted(&s.Request, hops+1); !trusted.Match(addr) || !first.IsValid() {
			return l7.Detection{Addr: addr, Trusted: single, Append: appends}
		}
	}
}

// parseRequestID converts request_id_extension: what request IDs have to do with tracing.
func parseRequestID(pb *hcmv3.HttpConnectionManager, spec *l7.Spec, p *filter.Parser) error {
	spec.RequestID = trace.RequestID{Pack: true, Use: true}
	if pb.RequestIdExtension.GetTypedConfig() == nil {
		return nil
	}
	c, err := fromproto.Any(pb.RequestIdExtension.TypedConfig)
	if err == nil && c.Type != uuidID {
		err = fmt.Errorf("this build does not support the request ID %q", c.Type)
	}
	if err == nil {
		var u uuidv3.UuidRequestIdConfig
		if err = fromproto.Unmarshal(c.Value, &u); err == nil {
			err = fromproto.Check(&u, p, fromproto.Fields{Used: []string{"pack_trace_reason", "use_request_id_for_trace_sampling"}})
		}
		spec.RequestID.Pack = u.PackTraceReason == nil || u.PackTraceReason.Value
		spec.RequestID.Use = u.UseRequestIdForTraceSampling == nil || u.UseRequestIdForTraceSampling.Value
	}
	return filter.At("request_id_extension.typed_config", err)
}

// parseForwardProto converts forward_proto_config.
func parseForwardProto(pb *hcmv3.HttpConnectionManager, spec *l7.Spec, p *filter.Parser) error {
	c := pb.ForwardProtoConfig
	if c == nil {
		return nil
	}
	err := fromproto.Check(c, p, fromproto.Fields{Used: []string{"https_destination_ports", "http_destination_ports"}})
	spec.ForwardProto = map[uint16]string{}
	for _, of := range []struct {
		field, scheme string
		ports         []uint32
	}{{"http_destination_ports", "http", c.HttpDestinationPorts}, {"https_destination_ports", "https", c.HttpsDestinationPorts}} {
		for i, port := range of.ports {
			if port == 0 || port > 65535 {
				return filter.At("forward_proto_config", filter.AtIndex(of.field, i, fmt.Errorf("%d is no port", port)))
			}
			spec.ForwardProto[uint16(port)] = of.scheme // https has the last word
		}
	}
	return filter.At("forward_proto_config", err)
}

// parseScheme converts scheme_header_transformation.
func parseScheme(pb *hcmv3.HttpConnectionManager, spec *l7.Spec, _ *filter.Parser) error {
	t := pb.SchemeHeaderTransformation
	if t == nil {
		return nil
	}
	spec.SchemeOfHost = t.MatchUpstream
	switch spec.Scheme = t.GetSchemeToOverwrite(); spec.Scheme {
	case "", "http", "https":
		return nil
	}
	return filter.At("scheme_header_transformation.scheme_to_overwrite", fmt.Errorf("%q is neither http nor https", spec.Scheme))
}
