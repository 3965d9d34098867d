package translate

import (
	"errors"
	"slices"

	internalv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/internal_upstream/v3"
	metadatav3 "github.com/envoyproxy/go-control-plane/envoy/type/metadata/v3"

	"github.com/mecha-mesh/mecha/proxy/cluster"
	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/filter/fromproto"
	"github.com/mecha-mesh/mecha/proxy/transport"
)

// internalSocket reads the transport socket of connections to internal listeners: what
// they bring along.
func internalSocket(raw []byte, p *filter.Parser) (transport.Socket, error) {
	var pb internalv3.InternalUpstreamTransport
	if err := fromproto.Unmarshal(raw, &pb); err != nil {
		return nil, err
	}
	if err := fromproto.Check(&pb, p, fromproto.Fields{Used: []string{"passthrough_metadata", "transport_socket"}}); err != nil {
		return nil, err
	}
	s := &transport.Internal{}
	var err error
	if s.Socket, err = upstreamSocket(pb.TransportSocket, p); err != nil {
		return nil, filter.At("transport_socket", err)
	}
	for i, m := range pb.PassthroughMetadata {
		pass := transport.Passthrough{Namespace: m.Name}
		switch m.Kind.GetKind().(type) {
		case *metadatav3.MetadataKind_Host_:
		case *metadatav3.MetadataKind_Cluster_:
			pass.Cluster = true
		default:
			return nil, filter.AtIndex("passthrough_metadata", i, filter.At("kind", errors.New("must be host or cluster")))
		}
		s.Passthrough = append(s.Passthrough, pass)
	}
	return s, nil
}

// passesCluster reports whether connections bring metadata of the cluster along.
func passesCluster(spec *cluster.Spec) bool {
	passes := func(s transport.Socket) bool {
		in, ok := s.(*transport.Internal)
		return ok && slices.ContainsFunc(in.Passthrough, func(p transport.Passthrough) bool { return p.Cluster })
	}
	return passes(spec.Socket) || slices.ContainsFunc(spec.Sockets, func(m cluster.SocketMatch) bool { return passes(m.Socket) })
}
