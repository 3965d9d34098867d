package buffering

import (
	"errors"

	bufferv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/buffer/v3"

	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/filter/fromproto"
)

// parse decodes envoy.extensions.filters.http.buffer.v3.Buffer.
func parse(raw []byte, p *filter.Parser) (*Config, error) {
	var pb bufferv3.Buffer
	if err := fromproto.Unmarshal(raw, &pb); err != nil {
		return nil, err
	}
	return limit(&pb, p)
}

func limit(pb *bufferv3.Buffer, p *filter.Parser) (*Config, error) {
	if err := fromproto.Check(pb, p, fromproto.Fields{Used: []string{"max_request_bytes"}}); err != nil {
		return nil, err
	}
	return &Config{Limit: int(pb.MaxRequestBytes.GetValue())}, nil
}

// parseRoute decodes envoy.extensions.filters.http.buffer.v3.BufferPerRoute.
func parseRoute(raw []byte, p *filter.Parser) (*Config, error) {
	var pb bufferv3.BufferPerRoute
	if err := fromproto.Unmarshal(raw, &pb); err != nil {
		return nil, err
	}
	switch m := pb.Override.(type) {
	case *bufferv3.BufferPerRoute_Disabled:
		return &Config{Off: true}, nil
	case *bufferv3.BufferPerRoute_Buffer:
		c, err := limit(m.Buffer, p)
		return c, filter.At("buffer", err)
	}
	return nil, errors.New("one of disabled, buffer must be set")
}
