package ads

import (
	"crypto/sha256"
	"errors"
	"fmt"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	statuspb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
)

// wrapperType is the envelope that lets a SotW response name its resources.
const wrapperType = "type.googleapis.com/envoy.service.discovery.v3.Resource"

// DigestOf is the digest of a resource body.
func DigestOf(body *anypb.Any) Digest {
	sum := sha256.Sum256(body.GetValue())
	return Digest(sum[:16])
}

// NameOf reads a resource's name without knowing its type: in every xDS resource
// it is the string in field 1 (name, or cluster_name of a ClusterLoadAssignment).
func NameOf(body *anypb.Any) (string, error) {
	b := body.GetValue()
	name := ""
	for len(b) > 0 {
		num, typ, n := protowire.ConsumeTag(b)
		if n < 0 {
			return "", fmt.Errorf("not a protobuf message: %w", protowire.ParseError(n))
		}
		b = b[n:]
		if num == 1 && typ == protowire.BytesType {
			v, n := protowire.ConsumeBytes(b)
			if n < 0 {
				return "", fmt.Errorf("name: %w", protowire.ParseError(n))
			}
			name, b = string(v), b[n:]
			continue
		}
		n = protowire.ConsumeFieldValue(num, typ, b)
		if n < 0 {
			if name != "" {
				return name, nil // damaged further on: whoever reads it whole can say where
			}
			return "", fmt.Errorf("field %d: %w", num, protowire.ParseError(n))
		}
		b = b[n:]
	}
	if name == "" {
		return "", errors.New("resource has no name")
	}
	return name, nil
}

// names lets what is the same in many resources be the same bytes: they are kept for as
// long as the resources are.
type names struct{ typeURL, version string }

func (n *names) share(r *Resource) {
	if r.Body != nil && r.Body.TypeUrl == n.typeURL {
		r.Body.TypeUrl = n.typeURL
	}
	if r.Version == n.version {
		r.Version = n.version
	} else {
		n.version = r.Version
	}
}

// FromSotW works out names and digests of a DiscoveryResponse, which is the caller's no
// longer: bodies are shared.
func FromSotW(r *discoveryv3.DiscoveryResponse) Response {
	out := Response{TypeURL: r.GetTypeUrl(), Version: r.GetVersionInfo(), Nonce: r.GetNonce(), ControlPlane: r.GetControlPlane().GetIdentifier()}
	same := names{typeURL: out.TypeURL}
	for i, body := range r.GetResources() {
		res := Resource{Version: r.GetVersionInfo(), Body: body}
		var err error
		if body.GetTypeUrl() == wrapperType {
			var w discoveryv3.Resource
			if err = proto.Unmarshal(body.GetValue(), &w); err == nil {
				res.Name, res.Body = w.GetName(), w.GetResource()
			}
		}
		if err == nil && res.Name == "" {
			res.Name, err = NameOf(res.Body)
		}
		if err != nil {
			out.Malformed = append(out.Malformed, Refusal{fmt.Sprintf("resources[%d]", i), err})
			continue
		}
		res.Digest = DigestOf(res.Body)
		same.share(&res)
		out.Resources = append(out.Resources, res)
	}
	return out
}

// FromDelta works out names and digests of a DeltaDiscoveryResponse, which is the
// caller's no longer: bodies are shared.
func FromDelta(r *discoveryv3.DeltaDiscoveryResponse) Response {
	out := Response{
		TypeURL: r.GetTypeUrl(), Version: r.GetSystemVersionInfo(), Nonce: r.GetNonce(),
		Removed: r.GetRemovedResources(), ControlPlane: r.GetControlPlane().GetIdentifier(),
	}
	same := names{typeURL: out.TypeURL}
	for i, in := range r.GetResources() {
		res := Resource{Name: in.GetName(), Version: in.GetVersion(), Body: in.GetResource(), Aliases: in.GetAliases()}
		if res.Name == "" {
			name, err := NameOf(res.Body)
			if err != nil {
				out.Malformed = append(out.Malformed, Refusal{fmt.Sprintf("resources[%d]", i), err})
				continue
			}
			res.Name = name
		}
		if res.Body != nil {
			res.Digest = DigestOf(res.Body)
		}
		same.share(&res)
		out.Resources = append(out.Resources, res)
	}
	return out
}

// message turns a request into what goes on the wire.
func (r Request) message(v Variant, node *corev3.Node) proto.Message {
	if !r.Node {
		node = nil
	}
	var detail *statuspb.Status
	if r.Error != "" {
		detail = &statuspb.Status{Code: int32(codes.Internal), Message: r.Error} // the code Envoy sends
	}
	if v == Delta {
		return &discoveryv3.DeltaDiscoveryRequest{
			Node: node, TypeUrl: r.TypeURL, ResponseNonce: r.Nonce, ErrorDetail: detail,
			ResourceNamesSubscribe: r.Subscribe, ResourceNamesUnsubscribe: r.Unsubscribe,
			InitialResourceVersions: r.Initial,
		}
	}
	return &discoveryv3.DiscoveryRequest{
		Node: node, TypeUrl: r.TypeURL, ResponseNonce: r.Nonce, ErrorDetail: detail,
		VersionInfo: r.Version, ResourceNames: r.Names,
	}
}
