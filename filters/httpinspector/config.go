package httpinspector

import (
	"fmt"

	httpinspectorv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/listener/http_inspector/v3"
	"google.golang.org/protobuf/proto"

	"github.com/mecha-mesh/mecha/proxy/filter"
)

// parseConfig decodes envoy.extensions.filters.listener.http_inspector.v3.HttpInspector.
func parseConfig(raw []byte, _ *filter.Parser) (*Config, error) {
	var pb httpinspectorv3.HttpInspector
	if err := proto.Unmarshal(raw, &pb); err != nil {
		return nil, fmt.Errorf("http_inspector: %w", err)
	}
	return &Config{}, nil
}
