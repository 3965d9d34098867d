package xds

import (
	"slices"
	"strconv"
	"strings"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/mecha-mesh/mecha/proxy/filter"
)

// Identify completes the node with what a control plane learns of the program: Envoy's
// name and version, since that is whose configuration is understood, and the
// extensions that there are. build is "<revision>/<version>/<status>/<type>/<TLS
// library>". What the bootstrap says of identity, metadata and locality stays.
func Identify(n *corev3.Node, build string, r *filter.Registry) {
	part := strings.Split(build, "/")
	for len(part) < 5 {
		part = append(part, "")
	}
	n.UserAgentName = "envoy"
	n.UserAgentVersionType = &corev3.Node_UserAgentBuildVersion{UserAgentBuildVersion: &corev3.BuildVersion{
		Version: semantic(part[1]),
		Metadata: &structpb.Struct{Fields: map[string]*structpb.Value{
			"revision.sha": structpb.NewStringValue(part[0]), "revision.status": structpb.NewStringValue(part[2]),
			"build.type": structpb.NewStringValue(part[3]), "ssl.version": structpb.NewStringValue(part[4]),
		}},
	}}
	n.Extensions = nil
	for _, e := range r.Extensions() {
		n.Extensions = append(n.Extensions, &corev3.Extension{Name: e.Name, Category: e.Category, TypeUrls: e.Types})
	}
	slices.SortStableFunc(n.Extensions, func(a, b *corev3.Extension) int {
		return strings.Compare(a.Category+"\x00"+a.Name, b.Category+"\x00"+b.Name)
	})
}

// semantic reads "1.40.0".
func semantic(s string) *typev3.SemanticVersion {
	var n [3]uint32
	for i, part := range strings.SplitN(s, ".", 3) {
		if v, err := strconv.ParseUint(part, 10, 32); err == nil {
			n[i] = uint32(v)
		}
	}
	return &typev3.SemanticVersion{MajorNumber: n[0], MinorNumber: n[1], Patch: n[2]}
}
