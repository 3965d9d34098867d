package translate

import (
	"errors"
	"fmt"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	proxyprotocolv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/proxy_protocol/v3"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/mecha-mesh/mecha/proxy/cluster"
	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/filter/fromproto"
	"github.com/mecha-mesh/mecha/proxy/transport"
)

// The transport sockets of this build, and where a host's metadata has its own TLVs.
const (
	rawBuffer        = "envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer"
	proxyProtocol    = "envoy.extensions.transport_sockets.proxy_protocol.v3.ProxyProtocolUpstreamTransport"
	internalUpstream = "envoy.extensions.transport_sockets.internal_upstream.v3.InternalUpstreamTransport"
	hostTLVs         = "envoy.transport_sockets.proxy_protocol"
)

func clusterSocket(pb *clusterv3.Cluster, spec *cluster.Spec, p *filter.Parser) (err error) {
	if spec.Socket, err = upstreamSocket(pb.TransportSocket, p); err != nil {
		return filter.At("transport_socket", err)
	}
	for i, m := range pb.TransportSocketMatches {
		s, err := upstreamSocket(m.TransportSocket, p)
		if err == nil && m.Name == "" {
			err = filter.At("name", errors.New("must not be empty"))
		}
		if err != nil {
			return filter.AtIndex("transport_socket_matches", i, filter.At("transport_socket", err))
		}
		spec.Sockets = append(spec.Sockets, cluster.SocketMatch{Name: m.Name, Match: m.Match.AsMap(), Socket: s})
	}
	if onlyRaw(spec) { // there is nothing to choose
		spec.Sockets = nil
	}
	if passesCluster(spec) {
		spec.Metadata = filterMetadata(pb.Metadata)
	}
	spec.PerDownstream = pb.ConnectionPoolPerDownstreamConnection
	return filter.At("preconnect_policy", preconnect(pb.PreconnectPolicy, spec, p))
}

func onlyRaw(spec *cluster.Spec) bool {
	if spec.Socket.Key() != (transport.Raw{}).Key() {
		return false
	}
	for _, m := range spec.Sockets {
		if m.Socket.Key() != spec.Socket.Key() {
			return false
		}
	}
	return true
}

// maxRatio is the most that is made ahead.
const maxRatio = 3

func preconnect(pb *clusterv3.Cluster_PreconnectPolicy, spec *cluster.Spec, p *filter.Parser) error {
	if pb == nil {
		return nil
	}
	err := fromproto.Check(pb, p, fromproto.Fields{
		Used: []string{"per_upstream_preconnect_ratio", "predictive_preconnect_ratio"},
	})
	if v := pb.PredictivePreconnectRatio; err == nil && v != nil {
		if spec.Predict = v.Value; !(v.Value >= 1 && v.Value <= maxRatio) {
			err = filter.At("predictive_preconnect_ratio", fmt.Errorf("%v is outside 1 to %d", v.Value, maxRatio))
		}
	}
	if v := pb.PerUpstreamPreconnectRatio; err == nil && v != nil {
		if spec.Preconnect = v.Value; !(v.Value >= 1 && v.Value <= maxRatio) {
			err = filter.At("per_upstream_preconnect_ratio", fmt.Errorf("%v is outside 1 to %d", v.Value, maxRatio))
		}
	}
	return err
}

// PlainSocket accepts the raw_buffer transport socket.
func PlainSocket(ts *corev3.TransportSocket) error {
	_, err := socket(ts, func(c filter.Any) (transport.Socket, error) {
		return nil, fmt.Errorf("this build does not support the transport socket %q here", c.Type)
	})
	return err
}

// downstreamSocket reads a transport socket of a filter chain; nil is raw_buffer.
func downstreamSocket(ts *corev3.TransportSocket, p *filter.Parser) (transport.Socket, error) {
	return socket(ts, func(c filter.Any) (transport.Socket, error) {
		if c.Type == downstreamTLS {
			return downstreamContext(c.Value, p)
		}
		return nil, fmt.Errorf("this build does not support the transport socket %q", c.Type)
	})
}

// upstreamSocket reads a transport socket of a cluster; nil is raw_buffer.
func upstreamSocket(ts *corev3.TransportSocket, p *filter.Parser) (transport.Socket, error) {
	return socket(ts, func(c filter.Any) (transport.Socket, error) {
		switch c.Type {
		case proxyProtocol:
			return proxyProtocolSocket(c.Value, p)
		case internalUpstream:
			return internalSocket(c.Value, p)
		case upstreamTLS:
			return upstreamContext(c.Value, p)
		}
		return nil, fmt.Errorf("this build does not support the transport socket %q", c.Type)
	})
}

// socket reads raw_buffer, and what else knows.
func socket(ts *corev3.TransportSocket, other func(filter.Any) (transport.Socket, error)) (transport.Socket, error) {
	if ts == nil {
		return transport.Raw{}, nil
	}
	c, err := fromproto.Any(ts.GetTypedConfig())
	if err != nil {
		return nil, filter.At("typed_config", err)
	}
	if c.Type == rawBuffer {
		return transport.Raw{}, nil
	}
	s, err := other(c)
	return s, filter.At("typed_config", err)
}

func proxyProtocolSocket(raw []byte, p *filter.Parser) (transport.Socket, error) {
	var pb proxyprotocolv3.ProxyProtocolUpstreamTransport
	if err := fromproto.Unmarshal(raw, &pb); err != nil {
		return nil, err
	}
	err := fromproto.Check(&pb, p, fromproto.Fields{
		// TLVs are part of the pool key whatever tlv_as_pool_key says, and an address that is
		// not known is told as such.
		Used: []string{"config", "transport_socket", "tlv_as_pool_key", "allow_unspecified_address"},
	})
	if err != nil {
		return nil, err
	}
	if pb.TransportSocket == nil {
		return nil, filter.At("transport_socket", errors.New("is required"))
	}
	s := &transport.ProxyProtocol{}
	if s.Inner, err = upstreamSocket(pb.TransportSocket, p); err != nil {
		return nil, filter.At("transport_socket", err)
	}
	c := pb.Config
	if s.V2 = c.GetVersion() == corev3.ProxyProtocolConfig_V2; !s.V2 {
		return s, nil
	}
	if pass := c.GetPassThroughTlvs(); pass != nil {
		s.PassAll = pass.MatchType == corev3.ProxyProtocolPassThroughTLVs_INCLUDE_ALL
		for i, t := range pass.TlvType {
			if t > 255 {
				return nil, filter.At("config.pass_through_tlvs", filter.AtIndex("tlv_type", i, fmt.Errorf("%d is more than 255", t)))
			}
			s.Pass = append(s.Pass, byte(t))
		}
	}
	s.Added, err = addedTLVs(c.GetAddedTlvs())
	return s, filter.At("config", err)
}

func addedTLVs(list []*corev3.TlvEntry) ([]transport.TLV, error) {
	var out []transport.TLV
	for i, t := range list {
		err := fromproto.Check(t, nil, fromproto.Fields{Used: []string{"type", "value"}})
		switch {
		case err != nil:
		case t.Type > 255:
			err = filter.At("type", fmt.Errorf("%d is more than 255", t.Type))
		case len(t.Value) > 1<<16-1:
			err = filter.At("value", fmt.Errorf("has %d bytes, more than 65535", len(t.Value)))
		}
		if err != nil {
			return nil, filter.AtIndex("added_tlvs", i, err)
		}
		out = append(out, transport.TLV{Type: byte(t.Type), Value: t.Value})
	}
	return out, nil
}

// tlvsOfHost reads the TLVs that typed metadata gives a host of its own.
func tlvsOfHost(typed map[string]*anypb.Any) ([]transport.TLV, error) {
	a := typed[hostTLVs]
	if a == nil {
		return nil, nil
	}
	var c corev3.ProxyProtocolConfig
	err := fromproto.Unmarshal(a.Value, &c)
	var out []transport.TLV
	if err == nil {
		out, err = addedTLVs(c.AddedTlvs)
	}
	return out, filter.At("metadata.typed_filter_metadata["+hostTLVs+"]", err)
}
