package grpcjsontranscoder

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	transcoderv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/grpc_json_transcoder/v3"

	"github.com/mecha-mesh/mecha/filters/grpcjsontranscoder/jsonpb"
	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/filter/fromproto"
)

// parse decodes envoy.extensions.filters.http.grpc_json_transcoder.v3.GrpcJsonTranscoder.
func parse(raw []byte, p *filter.Parser) (*Config, error) {
	var pb transcoderv3.GrpcJsonTranscoder
	if err := fromproto.Unmarshal(raw, &pb); err != nil {
		return nil, err
	}
	err := fromproto.Check(&pb, p, fromproto.Fields{Used: []string{
		"proto_descriptor", "proto_descriptor_bin", "services", "print_options", "match_incoming_request_route",
		"ignored_query_parameters", "auto_mapping", "ignore_unknown_query_parameters", "convert_grpc_status",
		"url_unescape_spec", "query_param_unescape_plus", "match_unregistered_custom_verb", "request_validation_options",
		"case_insensitive_enum_parsing", "max_request_body_size", "max_response_body_size", "capture_unknown_query_parameters",
	}})
	if err != nil {
		return nil, err
	}
	if len(pb.Services) == 0 {
		return &Config{Disabled: true}, nil
	}
	set, err := descriptors(&pb)
	if err != nil {
		return nil, err
	}
	c := &Config{
		KeepRoute: pb.MatchIncomingRequestRoute, ConvertStatus: pb.ConvertGrpcStatus,
		IgnoreUnknown: pb.IgnoreUnknownQueryParameters, Capture: pb.CaptureUnknownQueryParameters, PlusIsSpace: pb.QueryParamUnescapePlus,
		MaxRequest: int(pb.MaxRequestBodySize.GetValue()), MaxResponse: int(pb.MaxResponseBodySize.GetValue()),
		Ignored: map[string]struct{}{}, methods: matcher{anyVerb: pb.MatchUnregisteredCustomVerb},
	}
	for _, name := range pb.IgnoredQueryParameters {
		c.Ignored[name] = struct{}{}
	}
	switch pb.UrlUnescapeSpec {
	case transcoderv3.GrpcJsonTranscoder_ALL_CHARACTERS_EXCEPT_SLASH:
		c.Unescape = exceptSlash
	case transcoderv3.GrpcJsonTranscoder_ALL_CHARACTERS:
		c.Unescape = everything
	}
	if err := c.print(pb.PrintOptions, p, set); err != nil {
		return nil, filter.At("print_options", err)
	}
	v := pb.RequestValidationOptions
	if v != nil {
		err := fromproto.Check(v, p, fromproto.Fields{Used: []string{
			"reject_unknown_method", "reject_unknown_query_parameters", "reject_binding_body_field_collisions",
		}})
		if err != nil {
			return nil, filter.At("request_validation_options", err)
		}
	}
	c.RejectMethod, c.RejectQuery = v.GetRejectUnknownMethod(), v.GetRejectUnknownQueryParameters()
	encoder := jsonpb.Encoder{Set: set, FoldEnums: pb.CaseInsensitiveEnumParsing, RejectCollisions: v.GetRejectBindingBodyFieldCollisions()}
	for i, name := range pb.Services {
		if err := c.service(name, encoder, pb.AutoMapping); err != nil {
			return nil, filter.AtIndex("services", i, err)
		}
	}
	return c, nil
}

func (c *Config) print(pb *transcoderv3.GrpcJsonTranscoder_PrintOptions, p *filter.Parser, set *jsonpb.Set) error {
	c.printer = jsonpb.Printer{
		Set: set, Whitespace: pb.GetAddWhitespace(), Defaults: pb.GetAlwaysPrintPrimitiveFields(),
		EnumInts: pb.GetAlwaysPrintEnumsAsInts(), ProtoNames: pb.GetPreserveProtoFieldNames(),
	}
	c.NewlineDelimited, c.SSE = pb.GetStreamNewlineDelimited(), pb.GetStreamSseStyleDelimited()
	if pb == nil {
		return nil
	}
	return fromproto.Check(pb, p, fromproto.Fields{Used: []string{
		"add_whitespace", "always_print_primitive_fields", "always_print_enums_as_ints", "preserve_proto_field_names",
		"stream_newline_delimited", "stream_sse_style_delimited",
	}})
}

// maxDescriptor is how large a file with descriptors may be, in bytes.
const maxDescriptor = 64 << 20

// descriptors reads the descriptor set.
func descriptors(pb *transcoderv3.GrpcJsonTranscoder) (*jsonpb.Set, error) {
	field, raw := "proto_descriptor_bin", pb.GetProtoDescriptorBin()
	if name := pb.GetProtoDescriptor(); name != "" {
		field = "proto_descriptor"
		var err error
		if raw, err = read(name); err != nil {
			return nil, filter.At(field, err)
		}
	}
	set, err := jsonpb.Load(raw)
	return set, filter.At(field, err)
}

// read reads a regular file, which a device or a pipe is not.
func read(name string) ([]byte, error) {
	info, err := os.Stat(name)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() || info.Size() > maxDescriptor {
		return nil, fmt.Errorf("%s is not a file of at most %d bytes", name, maxDescriptor)
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, maxDescriptor))
}

// service registers the methods of a service.
func (c *Config) service(name string, encoder jsonpb.Encoder, autoMapping bool) error {
	methods, ok := encoder.Set.Service(name)
	if !ok {
		return fmt.Errorf("could not find %q in the proto descriptor", name)
	}
	for _, m := range methods {
		if m.Rules == nil && autoMapping {
			m.Rules = []jsonpb.Rule{{Method: "POST", Template: m.Path, Body: "*"}}
		}
		for _, r := range m.Rules {
			if err := c.rule(m, r, encoder); err != nil {
				return fmt.Errorf("cannot register %q: %w", strings.ReplaceAll(m.Path[1:], "/", "."), err)
			}
		}
	}
	return nil
}

func (c *Config) rule(m jsonpb.Method, r jsonpb.Rule, encoder jsonpb.Encoder) (err error) {
	to := &method{path: m.Path, output: m.Output, clientStreams: m.ClientStreams, serverStreams: m.ServerStreams}
	encoder.Type = m.Input
	if r.Body != "*" {
		if encoder.Body, err = m.Input.Resolve(names(r.Body)); err != nil {
			return err
		}
	}
	if to.outputPath, err = m.Output.Resolve(names(r.ResponseBody)); err != nil {
		return err
	}
	to.input = encoder
	to.httpBodyIn, to.httpBodyOut = m.Input.IsHTTPBody(encoder.Body), m.Output.IsHTTPBody(to.outputPath)
	if r.Template == "" {
		return nil // it says nothing of its own
	}
	if r.Method == "" {
		return errors.New("custom needs a kind")
	}
	return c.methods.add(r.Method, r.Template, to)
}

// names splits the path of a field.
func names(path string) []string {
	return strings.FieldsFunc(path, func(r rune) bool { return r == '.' })
}
