// Package control is a control plane for a folder: Envoy resources in YAML or JSON
// files, served over ADS (state of the world and delta) with go-control-plane's
// caches, and served again when a file changes.
//
//   - A file may hold any mix of resources; a broken one is reported with file, line
//     and path while what it last held stays served.
//   - Changes reach a proxy make-before-break: new clusters and endpoints, then
//     listeners and routes, and only then what is gone goes.
//   - A subfolder named like a node's id, or like its cluster, adds to the folder's
//     own resources, or replaces them, for these nodes.
//
// Not here: any knowledge of Kubernetes, and the meaning of a resource beyond a few
// references whose mistakes are worth a warning.
package control

import (
	"cmp"
	"crypto/sha256"
	"fmt"
	"slices"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	runtimev3 "github.com/envoyproxy/go-control-plane/envoy/service/runtime/v3"
	"google.golang.org/protobuf/proto"

	"github.com/mecha-mesh/mecha/xds/ads"
)

// kind is one type of resource that can be served.
type kind struct {
	typeURL string
	noun    string // in messages
	make    func() proto.Message
}

// kinds lists them in the order in which they are pushed.
func kinds() []kind {
	return []kind{
		{ads.ClusterType, "cluster", func() proto.Message { return new(clusterv3.Cluster) }},
		{ads.EndpointType, "endpoints", func() proto.Message { return new(endpointv3.ClusterLoadAssignment) }},
		{ads.SecretType, "secret", func() proto.Message { return new(tlsv3.Secret) }},
		{ads.RuntimeType, "runtime layer", func() proto.Message { return new(runtimev3.Runtime) }},
		{ads.ExtensionConfigType, "extension config", func() proto.Message { return new(corev3.TypedExtensionConfig) }},
		{ads.ListenerType, "listener", func() proto.Message { return new(listenerv3.Listener) }},
		{ads.RouteType, "routes", func() proto.Message { return new(routev3.RouteConfiguration) }},
		{ads.ScopedRouteType, "scoped routes", func() proto.Message { return new(routev3.ScopedRouteConfiguration) }},
		{ads.VirtualHostType, "virtual host", func() proto.Message { return new(routev3.VirtualHost) }},
	}
}

func kindOf(typeURL string) (kind, int, bool) {
	for i, k := range kinds() {
		if k.typeURL == typeURL {
			return k, i, true
		}
	}
	return kind{}, 0, false
}

// Resource is one resource of the folder. Immutable.
type Resource struct {
	TypeURL string
	Name    string
	Message proto.Message
	File    string // relative to the folder
	Line    int
	digest  [16]byte
}

// String names the resource for a log line: cluster web.
func (r *Resource) String() string {
	k, _, _ := kindOf(r.TypeURL)
	return k.noun + " " + r.Name
}

func (r *Resource) where() string { return fmt.Sprintf("%s:%d", r.File, r.Line) }

type key struct{ typeURL, name string }

func (r *Resource) key() key { return key{r.TypeURL, r.Name} }

// Set is what one group of nodes is served. Immutable once published.
type Set map[key]*Resource

// sorted returns the resources in order of push, then of name.
func (s Set) sorted() []*Resource {
	out := make([]*Resource, 0, len(s))
	for _, r := range s {
		out = append(out, r)
	}
	slices.SortFunc(out, func(a, b *Resource) int {
		_, i, _ := kindOf(a.TypeURL)
		_, j, _ := kindOf(b.TypeURL)
		return cmp.Or(i-j, cmp.Compare(a.Name, b.Name))
	})
	return out
}

// newResource digests a decoded message.
func newResource(typeURL string, m proto.Message, file string, line int) (*Resource, error) {
	body, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("encode: %w", err)
	}
	sum := sha256.Sum256(body)
	return &Resource{
		TypeURL: typeURL, Name: nameOf(m), Message: m, File: file, Line: line,
		digest: [16]byte(sum[:16]),
	}, nil
}

func nameOf(m proto.Message) string {
	switch m := m.(type) {
	case *endpointv3.ClusterLoadAssignment:
		return m.GetClusterName()
	case interface{ GetName() string }:
		return m.GetName()
	}
	return ""
}
