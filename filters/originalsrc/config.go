package originalsrc

import (
	originalsrcv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/listener/original_src/v3"

	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/filter/fromproto"
)

// parse decodes envoy.extensions.filters.listener.original_src.v3.OriginalSrc.
func parse(raw []byte, p *filter.Parser) (*Config, error) {
	var pb originalsrcv3.OriginalSrc
	if err := fromproto.Unmarshal(raw, &pb); err != nil {
		return nil, err
	}
	// Envoy never binds to the port, whatever bind_port says.
	if err := fromproto.Check(&pb, p, fromproto.Fields{Used: []string{"mark"}, Ignored: []string{"bind_port"}}); err != nil {
		return nil, err
	}
	return &Config{Mark: int(pb.Mark)}, nil
}
