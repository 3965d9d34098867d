package jsontometadata

import (
	"cmp"
	"errors"

	jsonv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/json_to_metadata/v3"

	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/filter/fromproto"
)

// parse decodes envoy.extensions.filters.http.json_to_metadata.v3.JsonToMetadata.
func parse(raw []byte, p *filter.Parser) (*Config, error) {
	var pb jsonv3.JsonToMetadata
	if err := fromproto.Unmarshal(raw, &pb); err != nil {
		return nil, err
	}
	err := fromproto.Check(&pb, p, fromproto.Fields{Used: []string{"request_rules", "response_rules"}})
	if err != nil {
		return nil, err
	}
	if pb.RequestRules == nil && pb.ResponseRules == nil {
		return nil, errors.New("needs at least one of request_rules, response_rules")
	}
	c := &Config{}
	if c.Request, err = rules(pb.RequestRules, p); err != nil {
		return nil, filter.At("request_rules", err)
	}
	c.Response, err = rules(pb.ResponseRules, p)
	return c, filter.At("response_rules", err)
}

func rules(pb *jsonv3.JsonToMetadata_MatchRules, p *filter.Parser) (out Rules, err error) {
	if pb == nil {
		return out, nil
	}
	err = fromproto.Check(pb, p, fromproto.Fields{Used: []string{
		"rules", "allow_content_types", "allow_empty_content_type", "allow_content_types_regex",
	}})
	if err != nil {
		return out, err
	}
	out = Rules{Types: pb.AllowContentTypes, EmptyType: pb.AllowEmptyContentType}
	if len(out.Types) == 0 {
		out.Types = []string{"application/json"}
	}
	if pb.AllowContentTypesRegex != nil {
		if out.TypesRegex, err = fromproto.Regex(pb.AllowContentTypesRegex); err != nil {
			return out, filter.At("allow_content_types_regex", err)
		}
	}
	for i, one := range pb.Rules {
		r, err := rule(one, p)
		if err != nil {
			return out, filter.AtIndex("rules", i, err)
		}
		out.List = append(out.List, r)
	}
	return out, nil
}

func rule(pb *jsonv3.JsonToMetadata_Rule, p *filter.Parser) (r Rule, err error) {
	err = fromproto.Check(pb, p, fromproto.Fields{Used: []string{"selectors", "on_present", "on_missing", "on_error"}})
	if err != nil {
		return r, err
	}
	if pb.OnPresent == nil && pb.OnMissing == nil {
		return r, errors.New("needs on_present or on_missing")
	}
	for _, s := range pb.Selectors {
		r.Path = append(r.Path, s.GetKey())
	}
	for _, one := range []struct {
		field string
		to    **Pair
		pb    *jsonv3.JsonToMetadata_KeyValuePair
		fixed bool // needs a value
	}{
		{"on_present", &r.Present, pb.OnPresent, false},
		{"on_missing", &r.Missing, pb.OnMissing, true},
		{"on_error", &r.Error, pb.OnError, true},
	} {
		if one.pb == nil {
			continue
		}
		if *one.to, err = pair(one.pb, p); err != nil {
			return r, filter.At(one.field, err)
		}
		if one.fixed && one.pb.GetValue() == nil {
			return r, filter.At(one.field, filter.At("value", errors.New("is required")))
		}
	}
	return r, nil
}

func pair(pb *jsonv3.JsonToMetadata_KeyValuePair, p *filter.Parser) (*Pair, error) {
	err := fromproto.Check(pb, p, fromproto.Fields{Used: []string{
		"metadata_namespace", "key", "value", "type", "preserve_existing_metadata_value",
	}})
	if err != nil {
		return nil, err
	}
	out := &Pair{
		Namespace: cmp.Or(pb.MetadataNamespace, wellKnown), Key: pb.Key, Fixed: pb.GetValue().AsInterface(),
		Preserve: pb.PreserveExistingMetadataValue, Convert: asIs,
	}
	switch pb.Type {
	case jsonv3.JsonToMetadata_NUMBER:
		out.Convert = asNumber
	case jsonv3.JsonToMetadata_STRING:
		out.Convert = asText
	}
	return out, nil
}
