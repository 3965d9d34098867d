package fromproto

import (
	"errors"
	"fmt"

	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"

	"github.com/mecha-mesh/mecha/proxy/filter"
)

const upstreamCodec = "envoy.extensions.filters.http.upstream_codec.v3.UpstreamCodec"

// UpstreamFilters reads the HTTP filters between the router and a host, of which the last
// must be the codec. field is the name of the list, for errors. None is nil.
func UpstreamFilters(field string, list []*hcmv3.HttpFilter, p *filter.Parser) ([]filter.UpstreamFilter, error) {
	var out []filter.UpstreamFilter
	for i, pb := range list {
		if err := Check(pb, p, Fields{Used: []string{"name", "typed_config", "is_optional", "disabled"}}); err != nil {
			return nil, filter.AtIndex(field, i, err)
		}
		c, err := Any(pb.GetTypedConfig())
		if err != nil {
			return nil, filter.AtIndex(field, i, filter.At("typed_config", err))
		}
		last := i == len(list)-1
		switch {
		case c.Type == upstreamCodec && last:
			return out, nil
		case c.Type == upstreamCodec:
			return nil, filter.AtIndex(field, i, errors.New("must be the last one"))
		}
		f, err := p.UpstreamHTTP(pb.Name, pb.Disabled, c)
		var unknown *filter.ErrUnknownType
		switch {
		case errors.As(err, &unknown) && pb.IsOptional:
		case err != nil:
			return nil, filter.AtIndex(field, i, filter.At("typed_config", err))
		case f.New != nil:
			out = append(out, f)
		}
		if last {
			return nil, filter.AtIndex(field, i, fmt.Errorf("the last filter must be %s", upstreamCodec))
		}
	}
	return out, nil
}
