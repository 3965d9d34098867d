package extauthz

import (
	"errors"
	"fmt"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	networkv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/ext_authz/v3"

	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/filter/fromproto"
)

// parseNetwork decodes envoy.extensions.filters.network.ext_authz.v3.ExtAuthz.
func parseNetwork(raw []byte, p *filter.Parser) (*ConnConfig, error) {
	var pb networkv3.ExtAuthz
	if err := fromproto.Unmarshal(raw, &pb); err != nil {
		return nil, err
	}
	err := fromproto.Check(&pb, p, fromproto.Fields{Used: []string{
		"stat_prefix", "grpc_service", "failure_mode_allow", "include_peer_certificate", "transport_api_version",
		"filter_enabled_metadata", "include_tls_session", "metadata_context_namespaces",
	}})
	if err != nil {
		return nil, err
	}
	if v := pb.TransportApiVersion; v != corev3.ApiVersion_V3 {
		return nil, filter.At("transport_api_version", fmt.Errorf("%v is not supported, V3 is", v))
	}
	c := &ConnConfig{
		StatPrefix: pb.StatPrefix, FailureAllow: pb.FailureModeAllow,
		Told: told{PeerCert: pb.IncludePeerCertificate, TLSSession: pb.IncludeTlsSession, Metadata: pb.MetadataContextNamespaces},
	}
	if pb.FilterEnabledMetadata != nil {
		m, err := fromproto.Metadata(pb.FilterEnabledMetadata)
		if err != nil {
			return nil, filter.At("filter_enabled_metadata", err)
		}
		c.EnabledMetadata = &m
	}
	if pb.GrpcService == nil {
		return nil, filter.At("grpc_service", errors.New("is required"))
	}
	if c.Service, err = fromproto.GRPCService(pb.GrpcService, p); err != nil {
		return nil, filter.At("grpc_service", err)
	}
	if pb.GrpcService.Timeout == nil {
		c.Service.Timeout = defaultTimeout
	}
	return c, nil
}
