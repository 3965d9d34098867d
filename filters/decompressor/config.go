package decompressor

import (
	"errors"
	"fmt"
	"strings"

	"github.com/andybalholm/brotli"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	brotliv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/compression/brotli/decompressor/v3"
	gzipv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/compression/gzip/decompressor/v3"
	zstdv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/compression/zstd/decompressor/v3"
	decompressorv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/decompressor/v3"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"github.com/mecha-mesh/mecha/proxy/codec"
	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/filter/fromproto"
)

// parse decodes envoy.extensions.filters.http.decompressor.v3.Decompressor.
func parse(raw []byte, p *filter.Parser) (*Config, error) {
	var pb decompressorv3.Decompressor
	if err := fromproto.Unmarshal(raw, &pb); err != nil {
		return nil, err
	}
	err := fromproto.Check(&pb, p, fromproto.Fields{Used: []string{"decompressor_library", "request_direction_config", "response_direction_config"}})
	if err != nil {
		return nil, err
	}
	c := &Config{LibraryName: strings.ToLower(pb.DecompressorLibrary.GetName()), Advertise: true}
	if !codec.IsToken(c.LibraryName) { // it is part of the names of trailers
		return nil, filter.At("decompressor_library.name", fmt.Errorf("%q can't be part of the name of a trailer", c.LibraryName))
	}
	if c.Library, err = library(pb.DecompressorLibrary, p); err != nil {
		return nil, filter.At("decompressor_library.typed_config", err)
	}
	if v := pb.GetRequestDirectionConfig().GetAdvertiseAcceptEncoding(); v != nil {
		c.Advertise = v.Value
	}
	c.Request = direction(pb.GetRequestDirectionConfig().GetCommonConfig())
	c.Response = direction(pb.GetResponseDirectionConfig().GetCommonConfig())
	return c, nil
}

func direction(pb *decompressorv3.Decompressor_CommonDirectionConfig) Direction {
	return Direction{Enabled: fromproto.RuntimeFlag(pb.GetEnabled(), true), IgnoreNoTransform: pb.GetIgnoreNoTransformHeader()}
}

// ratio is max_inflate_ratio where it is not given; the other libraries have no such field.
const ratio = 100

func library(pb *corev3.TypedExtensionConfig, p *filter.Parser) (*Library, error) {
	a, err := fromproto.Any(pb.GetTypedConfig())
	if err != nil {
		return nil, err
	}
	switch a.Type {
	case "envoy.extensions.compression.gzip.decompressor.v3.Gzip":
		return gzipLibrary(a.Value, p)
	case "envoy.extensions.compression.brotli.decompressor.v3.Brotli":
		return brotliLibrary(a.Value, p)
	case "envoy.extensions.compression.zstd.decompressor.v3.Zstd":
		return zstdLibrary(a.Value, p)
	}
	return nil, errors.New("this build has no decompressor library of the type " + a.Type)
}

// What the fields that are ignored would change is how the decoders of C use memory. Ours
// take any window of gzip and of brotli.

func gzipLibrary(raw []byte, p *filter.Parser) (*Library, error) {
	var pb gzipv3.Gzip
	if err := fromproto.Unmarshal(raw, &pb); err != nil {
		return nil, err
	}
	err := fromproto.Check(&pb, p, fromproto.Fields{Used: []string{"max_inflate_ratio"}, Ignored: []string{"window_bits", "chunk_size"}})
	l := &Library{Coding: "gzip", Stats: "gzip", Ratio: ratio, fresh: func() reader { return new(gzip.Reader) }}
	if pb.MaxInflateRatio != nil {
		l.Ratio = int64(pb.MaxInflateRatio.Value)
	}
	return l, err
}

func brotliLibrary(raw []byte, p *filter.Parser) (*Library, error) {
	var pb brotliv3.Brotli
	if err := fromproto.Unmarshal(raw, &pb); err != nil {
		return nil, err
	}
	err := fromproto.Check(&pb, p, fromproto.Fields{Ignored: []string{"disable_ring_buffer_reallocation", "chunk_size"}})
	return &Library{Coding: "br", Stats: "brotli", Ratio: ratio, fresh: func() reader { return brotli.NewReader(nil) }}, err
}

const (
	maxDictionary = 4 << 20
	// maxWindow is how far back a frame of zstd may refer: more than that no content coding
	// needs (RFC 9659).
	maxWindow = 8 << 20
)

func zstdLibrary(raw []byte, p *filter.Parser) (*Library, error) {
	var pb zstdv3.Zstd
	if err := fromproto.Unmarshal(raw, &pb); err != nil {
		return nil, err
	}
	err := fromproto.Check(&pb, p, fromproto.Fields{Used: []string{"dictionaries"}, Ignored: []string{"chunk_size"}})
	if err != nil {
		return nil, err
	}
	options := []zstd.DOption{
		zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(maxWindow),
	}
	for i, source := range pb.Dictionaries {
		d, err := fromproto.Bytes(source, maxDictionary)
		if err == nil {
			options = append(options, zstd.WithDecoderDicts([]byte(d)))
			_, err = zstd.NewReader(nil, options...)
		}
		if err != nil {
			return nil, filter.AtIndex("dictionaries", i, err)
		}
	}
	return &Library{Coding: "zstd", Stats: "zstd", Ratio: ratio, fresh: func() reader {
		r, _ := zstd.NewReader(nil, options...) // tried before
		return r
	}}, nil
}
