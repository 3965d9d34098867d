package headertometadata

import (
	"cmp"
	"errors"

	metadatav3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/header_to_metadata/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/filter/fromproto"
	"github.com/mecha-mesh/mecha/proxy/match"
)

// parse decodes envoy.extensions.filters.http.header_to_metadata.v3.Config of a filter.
func parse(raw []byte, p *filter.Parser) (*Config, error) {
	var pb metadatav3.Config
	if err := fromproto.Unmarshal(raw, &pb); err != nil {
		return nil, err
	}
	err := fromproto.Check(&pb, p, fromproto.Fields{Used: []string{"request_rules", "response_rules", "stat_prefix"}})
	if err != nil {
		return nil, err
	}
	c := &Config{StatPrefix: pb.StatPrefix}
	if c.Request, err = rules("request_rules", pb.RequestRules, p); err != nil {
		return nil, err
	}
	c.Response, err = rules("response_rules", pb.ResponseRules, p)
	return c, err
}

// parseRoute decodes the same message of a route, which has to have rules.
func parseRoute(raw []byte, p *filter.Parser) (*Config, error) {
	c, err := parse(raw, p)
	if err == nil && len(c.Request)+len(c.Response) == 0 {
		return nil, errors.New("needs at least one of request_rules, response_rules")
	}
	return c, err
}

func rules(field string, list []*metadatav3.Config_Rule, p *filter.Parser) (out []Rule, err error) {
	for i, pb := range list {
		r, err := rule(pb, p)
		if err != nil {
			return nil, filter.AtIndex(field, i, err)
		}
		out = append(out, r)
	}
	return out, nil
}

func rule(pb *metadatav3.Config_Rule, p *filter.Parser) (r Rule, err error) {
	r = Rule{Header: match.HeaderName(pb.Header), Cookie: pb.Cookie, Remove: pb.Remove}
	err = fromproto.Check(pb, p, fromproto.Fields{Used: []string{"header", "cookie", "on_header_present", "on_header_missing", "remove"}})
	switch {
	case err != nil:
		return r, err
	case pb.Header != "" && pb.Cookie != "":
		return r, filter.At("cookie", errors.New("cannot be set together with header"))
	case pb.Header == "" && pb.Cookie == "":
		return r, errors.New("one of header, cookie must be set")
	case pb.Cookie != "" && pb.Remove:
		return r, filter.At("remove", errors.New("cannot be set for a cookie"))
	case pb.OnHeaderPresent == nil && pb.OnHeaderMissing == nil:
		return r, errors.New("needs on_header_present or on_header_missing")
	}
	if r.Present, err = pair(pb.OnHeaderPresent, p); err != nil {
		return r, filter.At("on_header_present", err)
	}
	if r.Missing, err = pair(pb.OnHeaderMissing, p); err != nil {
		return r, filter.At("on_header_missing", err)
	}
	if r.Missing != nil && r.Missing.Value == "" {
		return r, filter.At("on_header_missing", filter.At("value", errors.New("must not be empty")))
	}
	return r, nil
}

func pair(pb *metadatav3.Config_KeyValuePair, p *filter.Parser) (*Pair, error) {
	if pb == nil {
		return nil, nil
	}
	err := fromproto.Check(pb, p, fromproto.Fields{Used: []string{
		"metadata_namespace", "key", "value", "regex_value_rewrite", "type", "encode",
	}})
	if err != nil {
		return nil, err
	}
	out := &Pair{
		Namespace: cmp.Or(pb.MetadataNamespace, wellKnown), Key: pb.Key, Value: pb.Value,
		Decode: pb.Encode == metadatav3.Config_BASE64, Convert: text,
	}
	switch pb.Type {
	case metadatav3.Config_NUMBER:
		out.Convert = number
	case metadatav3.Config_PROTOBUF_VALUE:
		out.Convert = protobufValue
	}
	if pb.RegexValueRewrite != nil {
		if pb.Value != "" {
			return nil, filter.At("regex_value_rewrite", errors.New("cannot be set together with value"))
		}
		if out.Rewrite, err = fromproto.Substitution(pb.RegexValueRewrite); err != nil {
			return nil, filter.At("regex_value_rewrite", err)
		}
	}
	if out.Value != "" {
		out.fixed, _ = out.convert(out.Value) // one that cannot be stored is counted with each request
	}
	return out, nil
}

var errMessage = errors.New("the value is not a google.protobuf.Value")

// protobufValue reads a serialised google.protobuf.Value.
func protobufValue(v string) (any, error) {
	var pb structpb.Value
	if proto.Unmarshal([]byte(v), &pb) != nil || pb.Kind == nil {
		return nil, errMessage
	}
	return pb.AsInterface(), nil
}
