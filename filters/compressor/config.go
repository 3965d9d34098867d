package compressor

import (
	"errors"
	"strings"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	compressorv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/compressor/v3"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/filter/fromproto"
)

// parse decodes envoy.extensions.filters.http.compressor.v3.Compressor.
func parse(raw []byte, p *filter.Parser) (*Config, error) {
	var pb compressorv3.Compressor
	if err := fromproto.Unmarshal(raw, &pb); err != nil {
		return nil, err
	}
	err := fromproto.Check(&pb, p, fromproto.Fields{Used: []string{
		"content_length", "content_type", "disable_on_etag_header", "remove_accept_encoding_header", "runtime_enabled",
		"compressor_library", "request_direction_config", "response_direction_config", "choose_first",
	}})
	if err != nil {
		return nil, err
	}
	c := &Config{LibraryName: pb.GetCompressorLibrary().GetName(), First: pb.ChooseFirst, Legacy: pb.ResponseDirectionConfig == nil}
	if c.Library, err = library(pb.CompressorLibrary, p); err != nil {
		return nil, filter.At("compressor_library", err)
	}
	if r := pb.RequestDirectionConfig; r != nil {
		d, err := direction(r.GetCommonConfig(), p)
		if err != nil {
			return nil, filter.At("request_direction_config.common_config", err)
		}
		c.Request = &d
	}
	c.Response, err = responses(&pb, p)
	return c, err
}

// responses reads response_direction_config, or the older fields in its place.
func responses(pb *compressorv3.Compressor, p *filter.Parser) (ResponseDirection, error) {
	r, field := pb.ResponseDirectionConfig, "response_direction_config"
	if r == nil {
		field = ""
		r = &compressorv3.Compressor_ResponseDirectionConfig{
			CommonConfig: &compressorv3.Compressor_CommonDirectionConfig{
				Enabled: pb.RuntimeEnabled, MinContentLength: pb.ContentLength, ContentType: pb.ContentType,
			},
			DisableOnEtagHeader: pb.DisableOnEtagHeader, RemoveAcceptEncodingHeader: pb.RemoveAcceptEncodingHeader,
		}
	}
	err := fromproto.Check(r, p, fromproto.Fields{Used: []string{
		"common_config", "disable_on_etag_header", "weaken_etag_on_compress", "remove_accept_encoding_header",
		"uncompressible_response_codes", "status_header_enabled",
	}})
	if err != nil {
		return ResponseDirection{}, filter.At(field, err)
	}
	out := ResponseDirection{
		DisableOnEtag: r.DisableOnEtagHeader, WeakenEtag: r.WeakenEtagOnCompress, RemoveAccept: r.RemoveAcceptEncodingHeader,
		StatusHeader: r.StatusHeaderEnabled, Codes: map[int]struct{}{},
	}
	for _, code := range r.UncompressibleResponseCodes {
		out.Codes[int(code)] = struct{}{}
	}
	out.Direction, err = direction(r.GetCommonConfig(), p)
	return out, filter.At(field, filter.At("common_config", err))
}

// minLength is min_content_length where it is not given, in bytes.
const minLength = 30

// defaultTypes are compressed where the configuration does not say what is.
var defaultTypes = []string{
	"text/html", "text/plain", "text/css", "application/javascript", "application/x-javascript", "text/javascript", "text/x-javascript",
	"text/ecmascript", "text/js", "text/jscript", "text/x-js", "application/ecmascript", "application/x-json", "application/xml",
	"application/json", "image/svg+xml", "text/xml", "application/xhtml+xml", "application/grpc-web", "application/grpc-web+proto",
}

func direction(pb *compressorv3.Compressor_CommonDirectionConfig, p *filter.Parser) (d Direction, err error) {
	if pb == nil {
		pb = &compressorv3.Compressor_CommonDirectionConfig{}
	}
	err = fromproto.Check(pb, p, fromproto.Fields{Used: []string{"enabled", "min_content_length", "content_type", "content_type_matcher"}})
	if err != nil {
		return d, err
	}
	d = Direction{Enabled: fromproto.RuntimeFlag(pb.Enabled, true), MinLength: minLength, Types: map[string]struct{}{}}
	if n := pb.MinContentLength.GetValue(); n > 0 {
		d.MinLength = uint64(n)
	}
	types := pb.ContentType
	if len(types) == 0 {
		types = defaultTypes
	}
	for i, t := range types {
		if len(t) > longest {
			return d, filter.AtIndex("content_type", i, errors.New("is too long"))
		}
		d.Types[strings.ToLower(t)] = struct{}{}
	}
	d.Matchers, err = fromproto.StringList("content_type_matcher", pb.ContentTypeMatcher)
	return d, err
}

// parseRoute decodes envoy.extensions.filters.http.compressor.v3.CompressorPerRoute.
func parseRoute(raw []byte, p *filter.Parser) (*Config, error) {
	var pb compressorv3.CompressorPerRoute
	if err := fromproto.Unmarshal(raw, &pb); err != nil {
		return nil, err
	}
	switch m := pb.Override.(type) {
	case *compressorv3.CompressorPerRoute_Disabled:
		return &Config{On: new(bool)}, nil
	case *compressorv3.CompressorPerRoute_Overrides:
		c, err := overrides(m.Overrides, p)
		return c, filter.At("overrides", err)
	}
	return nil, errors.New("one of disabled, overrides must be set")
}

func overrides(pb *compressorv3.CompressorOverrides, p *filter.Parser) (*Config, error) {
	err := fromproto.Check(pb, p, fromproto.Fields{Used: []string{"response_direction_config", "compressor_library"}})
	if err != nil {
		return nil, err
	}
	c := &Config{}
	if r := pb.ResponseDirectionConfig; r != nil {
		on := true
		c.On = &on
		if err := fromproto.Check(r, p, fromproto.Fields{Used: []string{"remove_accept_encoding_header"}}); err != nil {
			return nil, filter.At("response_direction_config", err)
		}
		c.RemoveAccept = flag(r.RemoveAcceptEncodingHeader)
	}
	if pb.CompressorLibrary != nil {
		c.Library, err = library(pb.CompressorLibrary, p)
	}
	return c, filter.At("compressor_library", err)
}

func flag(pb *wrapperspb.BoolValue) *bool {
	if pb == nil {
		return nil
	}
	return &pb.Value
}

// library reads a TypedExtensionConfig.
func library(pb *corev3.TypedExtensionConfig, p *filter.Parser) (*Library, error) {
	a, err := fromproto.Any(pb.GetTypedConfig())
	if err == nil {
		switch a.Type {
		case "envoy.extensions.compression.gzip.compressor.v3.Gzip":
			l, err := gzipLibrary(a.Value, p)
			return l, filter.At("typed_config", err)
		case "envoy.extensions.compression.brotli.compressor.v3.Brotli":
			l, err := brotliLibrary(a.Value, p)
			return l, filter.At("typed_config", err)
		case "envoy.extensions.compression.zstd.compressor.v3.Zstd":
			l, err := zstdLibrary(a.Value, p)
			return l, filter.At("typed_config", err)
		}
		err = errors.New("this build has no compressor library of the type " + a.Type)
	}
	return nil, filter.At("typed_config", err)
}
