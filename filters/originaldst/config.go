package originaldst

import (
	"fmt"

	originaldstv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/listener/original_dst/v3"
	"google.golang.org/protobuf/proto"

	"github.com/mecha-mesh/mecha/proxy/filter"
)

// parse decodes envoy.extensions.filters.listener.original_dst.v3.OriginalDst.
func parse(raw []byte, _ *filter.Parser) (*Config, error) {
	var pb originaldstv3.OriginalDst
	if err := proto.Unmarshal(raw, &pb); err != nil {
		return nil, fmt.Errorf("original_dst: %w", err)
	}
	return &Config{}, nil
}
