package setmetadata

import (
	"errors"

	metadatav3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/set_metadata/v3"

	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/filter/fromproto"
)

// parse decodes envoy.extensions.filters.http.set_metadata.v3.Config.
func parse(raw []byte, p *filter.Parser) (*Config, error) {
	var pb metadatav3.Config
	if err := fromproto.Unmarshal(raw, &pb); err != nil {
		return nil, err
	}
	if err := fromproto.Check(&pb, p, fromproto.Fields{Used: []string{"metadata_namespace", "value", "metadata"}}); err != nil {
		return nil, err
	}
	c := &Config{}
	if pb.Value != nil { //nolint:staticcheck // deprecated, and still sent
		if pb.MetadataNamespace == "" { //nolint:staticcheck // as above
			return nil, filter.At("metadata_namespace", errors.New("must not be empty"))
		}
		c.Entries = append(c.Entries, Entry{pb.MetadataNamespace, pb.Value.AsMap(), true}) //nolint:staticcheck // as above
	}
	for i, m := range pb.Metadata {
		if err := fromproto.Check(m, p, fromproto.Fields{Used: []string{"metadata_namespace", "allow_overwrite", "value"}}); err != nil {
			return nil, filter.AtIndex("metadata", i, err)
		}
		if m.Value == nil {
			return nil, filter.AtIndex("metadata", i, filter.At("value", errors.New("is required")))
		}
		c.Entries = append(c.Entries, Entry{m.MetadataNamespace, m.Value.AsMap(), m.AllowOverwrite})
	}
	return c, nil
}
