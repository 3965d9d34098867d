package fromproto

import (
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"

	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/match"
)

// FilterMetadata converts filter_metadata into plain values, numbers as float64; nil if
// there are none. typed_filter_metadata is for extensions that this build does not have.
func FilterMetadata(pb *corev3.Metadata) map[string]map[string]any {
	if len(pb.GetFilterMetadata()) == 0 {
		return nil
	}
	out := make(map[string]map[string]any, len(pb.FilterMetadata))
	for name, values := range pb.FilterMetadata {
		out[name] = values.AsMap()
	}
	return out
}

// Metadata converts a MetadataMatcher.
func Metadata(pb *matcherv3.MetadataMatcher) (m match.Metadata, err error) {
	m = match.Metadata{Namespace: pb.GetFilter(), Invert: pb.GetInvert()}
	if err := Validate(pb); err != nil {
		return m, err
	}
	for _, p := range pb.Path {
		m.Path = append(m.Path, p.GetKey())
	}
	m.Value, err = ValueMatcher(pb.Value)
	return m, filter.At("value", err)
}
