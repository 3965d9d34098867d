package directresponse

import (
	directresponsev3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/direct_response/v3"

	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/filter/fromproto"
)

// maxResponse bounds the response, which every client is sent as a whole.
const maxResponse = 1 << 20

// parse decodes envoy.extensions.filters.network.direct_response.v3.Config.
func parse(raw []byte, p *filter.Parser) (*Config, error) {
	var pb directresponsev3.Config
	if err := fromproto.Unmarshal(raw, &pb); err != nil {
		return nil, err
	}
	if err := fromproto.Check(&pb, p, fromproto.Fields{Used: []string{"response"}}); err != nil {
		return nil, err
	}
	c := &Config{}
	if pb.Response == nil {
		return c, nil
	}
	var err error
	c.Response, err = fromproto.Bytes(pb.Response, maxResponse)
	return c, filter.At("response", err)
}
