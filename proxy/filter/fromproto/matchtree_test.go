package fromproto_test

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	xdsmatcherv3 "github.com/cncf/xds/go/xds/type/matcher/v3"
	commonmatcherv3 "github.com/envoyproxy/go-control-plane/envoy/config/common/matcher/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/filter/fromproto"
	"github.com/mecha-mesh/mecha/proxy/header"
	"github.com/mecha-mesh/mecha/proxy/match/tree"
	"github.com/mecha-mesh/mecha/proxy/meta"
)

// valueAction takes google.protobuf.StringValue for an action.
func valueAction(_ string, c filter.Any) (string, error) {
	var v wrapperspb.StringValue
	if c.Type != "google.protobuf.StringValue" {
		return "", fmt.Errorf("no action of the type %q", c.Type)
	}
	err := proto.Unmarshal(c.Value, &v)
	return v.Value, err
}

// short forms for the JSON of matchers.
func actionJSON(name string) string {
	return `{"action": {"name": "a", "typed_config": {"@type": "type.googleapis.com/google.protobuf.StringValue", "value": "` + name + `"}}}`
}

func typed(typ, fields string) string {
	if fields != "" {
		fields = ", " + fields
	}
	return `{"name": "x", "typed_config": {"@type": "type.googleapis.com/` + typ + `"` + fields + `}}`
}

func network(input, fields string) string {
	return typed("envoy.extensions.matching.common_inputs.network.v3."+input, fields)
}

func httpIn(input, fields string) string { return typed("envoy.type.matcher.v3."+input, fields) }

// list is a matcher_list with one predicate that leads to "yes".
func list(input, matcher string) string {
	return `{"matcher_list": {"matchers": [{"predicate": {"single_predicate": {"input": ` + input + `, ` + matcher + `}}, "on_match": ` + actionJSON("yes") + `}]}, "on_no_match": ` + actionJSON("no") + `}`
}

func exactly(v string) string { return `"value_match": {"exact": "` + v + `"}` }

func custom(typ, fields string) string { return `"custom_match": ` + typed(typ, fields) }

func parseTree(t testing.TB, text string) *xdsmatcherv3.Matcher {
	t.Helper()
	var pb xdsmatcherv3.Matcher
	if err := protojson.Unmarshal([]byte(text), &pb); err != nil {
		t.Fatalf("%v in\n%s", err, text)
	}
	return &pb
}

func at(s string) meta.Addr { return meta.Addr{AddrPort: netip.MustParseAddrPort(s)} }

// fieldsOf is a filter state object with parts.
type fieldsOf map[string]string

func (f fieldsOf) Field(name string) (string, bool) { v, ok := f[name]; return v, ok }
func (f fieldsOf) String() string                   { return "whole" }

func someConn() *filter.Conn {
	c := &filter.Conn{Meta: &meta.Conn{
		Local: at("10.0.0.1:8080"), Remote: at("192.0.2.7:4000"), Direct: at("192.0.2.8:4001"),
		ServerName: "www.example.com", TransportProtocol: "tls", ALPN: []string{"h2", "http/1.1"},
	}}
	c.State.Set("text", "value")
	c.State.Set("parts", fieldsOf{"a": "1"})
	c.State.Set("other", 5)
	c.Metadata.Set("ns", "k", map[string]any{"n": 5.0, "list": []any{"x", "y"}})
	return c
}

func TestNetworkTree(t *testing.T) {
	ranges := func(maps string) string {
		return `{"matcher_tree": {"input": ` + network("DestinationIPInput", "") + `, ` + maps + `}, "on_no_match": ` + actionJSON("no") + `}`
	}
	const ip = "envoy.extensions.matching.input_matchers.ip.v3.Ip"
	const md = "envoy.extensions.matching.input_matchers.metadata.v3.Metadata"
	path := `"filter": "ns", "path": [{"key": "k"}, {"key": "n"}]`
	for i, c := range []struct{ text, want string }{
		{list(network("DestinationIPInput", ""), exactly("10.0.0.1")), "yes"},
		{list(network("DestinationPortInput", ""), exactly("8080")), "yes"},
		{list(network("SourceIPInput", ""), exactly("192.0.2.7")), "yes"},
		{list(network("SourcePortInput", ""), exactly("4000")), "yes"},
		{list(network("DirectSourceIPInput", ""), exactly("192.0.2.8")), "yes"},
		{list(network("SourceTypeInput", ""), exactly("local")), "no"},
		{list(network("ServerNameInput", ""), `"value_match": {"suffix": ".EXAMPLE.com", "ignore_case": true}`), "yes"},
		{list(network("TransportProtocolInput", ""), exactly("tls")), "yes"},
		{list(network("ApplicationProtocolInput", ""), exactly("'h2','http/1.1'")), "yes"},
		{list(network("FilterStateInput", `"key": "text"`), exactly("value")), "yes"},
		{list(network("FilterStateInput", `"key": "parts", "field": "a"`), exactly("1")), "yes"},
		{list(network("FilterStateInput", `"key": "parts", "field": "b"`), `"value_match": {"safe_regex": {"google_re2": {}, "regex": ".*"}}`), "no"},
		{list(network("FilterStateInput", `"key": "parts"`), exactly("whole")), "yes"},
		{list(network("FilterStateInput", `"key": "other"`), `"value_match": {"safe_regex": {"google_re2": {}, "regex": ".*"}}`), "no"},
		{list(network("FilterStateInput", `"key": "none"`), `"value_match": {"safe_regex": {"google_re2": {}, "regex": ".*"}}`), "no"},
		{list(network("DynamicMetadataInput", path), custom(md, `"value": {"double_match": {"range": {"start": 5, "end": 6}}}`)), "yes"},
		{list(network("DynamicMetadataInput", path), custom(md, `"value": {"double_match": {"exact": 4}}, "invert": true`)), "yes"},
		{list(network("DynamicMetadataInput", `"filter": "ns", "path": [{"key": "k"}, {"key": "list"}]`), custom(md, `"value": {"list_match": {"one_of": {"or_match": {"value_matchers": [{"null_match": {}}, {"string_match": {"exact": "y"}}]}}}}`)), "yes"},
		{list(network("DynamicMetadataInput", `"filter": "other", "path": [{"key": "k"}]`), custom(md, `"value": {"present_match": true}`)), "no"},
		{list(network("SourceIPInput", ""), custom(ip, `"stat_prefix": "s", "cidr_ranges": [{"address_prefix": "192.0.2.0", "prefix_len": 24}]`)), "yes"},
		{list(network("SourceIPInput", ""), custom(ip, `"stat_prefix": "s", "cidr_ranges": [{"address_prefix": "192.0.3.0", "prefix_len": 24}]`)), "no"},
		{list(network("SourceIPInput", ""), custom("envoy.extensions.matching.input_matchers.consistent_hashing.v3.ConsistentHashing", `"threshold": 0, "modulo": 100`)), "yes"},
		{list(network("SourceIPInput", ""), custom("envoy.extensions.matching.input_matchers.runtime_fraction.v3.RuntimeFraction", `"runtime_fraction": {"default_value": {"numerator": 0}, "runtime_key": "k"}`)), "no"},
		{list(network("ServerNameInput", ""), `"value_match": {"safe_regex": {"google_re2": {}, "regex": "www\\..*"}}`), "yes"},
		{ranges(`"exact_match_map": {"map": {"10.0.0.1": ` + actionJSON("exact") + `}}`), "exact"},
		{ranges(`"prefix_match_map": {"map": {"10.": ` + actionJSON("ten") + `, "10.0.": {"matcher": ` + ranges(`"exact_match_map": {"map": {"10.0.0.1": `+actionJSON("nested")+`}}`) + `}}}`), "nested"},
		{ranges(`"custom_match": ` + typed("xds.type.matcher.v3.IPMatcher", `"range_matchers": [{"ranges": [{"address_prefix": "10.0.0.0", "prefix_len": 8}], "on_match": `+actionJSON("net")+`}]`)), "net"},
		{strings.Replace(ranges(`"custom_match": `+typed("xds.type.matcher.v3.ServerNameMatcher", `"domain_matchers": [{"domains": ["*.example.com", "example.com"], "on_match": `+actionJSON("domain")+`}]`)), "DestinationIPInput", "ServerNameInput", 1), "domain"},
		{`{"on_no_match": ` + actionJSON("always") + `}`, "always"},
	} {
		pb := parseTree(t, c.text)
		o := fromproto.TreeOptions[*filter.Conn, string]{Input: fromproto.NetworkInput, Action: valueAction}
		tr, err := fromproto.Tree(pb, nil, o)
		if err != nil {
			t.Errorf("case %d: %v", i, err)
			continue
		}
		if got, res := tr.Find(someConn()); got != c.want || res != tree.Match {
			t.Errorf("case %d: %q (%d), want %q\n%s", i, got, res, c.want, c.text)
		}
		var old commonmatcherv3.Matcher
		raw, _ := proto.Marshal(pb)
		if err := proto.Unmarshal(raw, &old); err != nil {
			t.Fatal(err)
		}
		tr, err = fromproto.EnvoyTree(&old, nil, o)
		if err != nil {
			t.Errorf("case %d, by its older name: %v", i, err)
			continue
		}
		if got, _ := tr.Find(someConn()); got != c.want {
			t.Errorf("case %d, by its older name: %q, want %q", i, got, c.want)
		}
	}
}

func TestHTTPTree(t *testing.T) {
	request := func() *filter.Stream {
		s := &filter.Stream{Session: someConn()}
		s.Conn = s.Session.Meta
		s.Request.AddID(header.Method, "GET")
		s.Request.AddID(header.Authority, "a.example")
		s.Request.AddID(header.Path, "/p?q=a%2Fb%zz&r=1")
		s.Request.Add("x", "1")
		s.Request.Add("x", "2")
		s.State.Set("mine", "stream")
		s.Metadata.Set("ns", "k", true)
		return s
	}
	answered := func() *filter.Stream {
		s := request()
		s.Response.AddID(header.Status, "404")
		s.Response.Add("y", "z")
		s.Meta.Details = "via_upstream"
		return s
	}
	const md = "envoy.extensions.matching.input_matchers.metadata.v3.Metadata"
	for i, c := range []struct {
		s          *filter.Stream
		text, want string
	}{
		{request(), list(httpIn("HttpRequestHeaderMatchInput", `"header_name": "X"`), exactly("1,2")), "yes"},
		{request(), list(httpIn("HttpRequestHeaderMatchInput", `"header_name": "host"`), exactly("a.example")), "yes"},
		{request(), list(httpIn("HttpRequestHeaderMatchInput", `"header_name": "none"`), `"value_match": {"safe_regex": {"google_re2": {}, "regex": ".*"}}`), "no"},
		{request(), list(httpIn("HttpRequestQueryParamMatchInput", `"query_param": "q"`), exactly("a/b%zz")), "yes"},
		{request(), list(httpIn("HttpRequestTrailerMatchInput", `"header_name": "t"`), exactly("1")), "unavailable"},
		{request(), list(httpIn("HttpResponseHeaderMatchInput", `"header_name": "y"`), exactly("z")), "unavailable"},
		{request(), list(httpIn("HttpResponseStatusCodeMatchInput", ""), exactly("404")), "unavailable"},
		{answered(), list(httpIn("HttpResponseHeaderMatchInput", `"header_name": "y"`), exactly("z")), "yes"},
		{answered(), list(httpIn("HttpResponseStatusCodeMatchInput", ""), exactly("404")), "yes"},
		{answered(), list(httpIn("HttpResponseStatusCodeClassMatchInput", ""), exactly("4xx")), "yes"},
		{answered(), list(httpIn("HttpResponseLocalReplyMatchInput", ""), exactly("false")), "yes"},
		{request(), list(network("SourceIPInput", ""), exactly("192.0.2.7")), "yes"},
		{request(), list(network("FilterStateInput", `"key": "mine"`), exactly("stream")), "yes"},
		{request(), list(network("FilterStateInput", `"key": "text"`), exactly("value")), "yes"},
		{request(), list(network("DynamicMetadataInput", `"filter": "ns", "path": [{"key": "k"}]`), custom(md, `"value": {"bool_match": true}`)), "yes"},
	} {
		tr, err := fromproto.Tree(parseTree(t, c.text), nil, fromproto.TreeOptions[*filter.Stream, string]{Input: fromproto.HTTPInput, Action: valueAction})
		if err != nil {
			t.Errorf("case %d: %v", i, err)
			continue
		}
		got, res := tr.Find(c.s)
		if res == tree.Unavailable {
			got = "unavailable"
		}
		if got != c.want {
			t.Errorf("case %d: %q, want %q\n%s", i, got, c.want, c.text)
		}
		if n := testing.AllocsPerRun(100, func() { tr.Find(c.s) }); n > 0 && !raceEnabled {
			t.Errorf("case %d: %v allocations", i, n)
		}
	}
}

// TestTreeErrors: what is refused is refused with the path of its field.
func TestTreeErrors(t *testing.T) {
	tree := func(in, kind string) string {
		return `{"matcher_tree": {"input": ` + in + `, ` + kind + `}}`
	}
	ip := network("SourceIPInput", "")
	single := "matcher_list.matchers[0].predicate.single_predicate."
	domains := func(list string) string {
		return tree(ip, `"custom_match": `+typed("xds.type.matcher.v3.ServerNameMatcher", `"domain_matchers": [{"domains": [`+list+`], "on_match": `+actionJSON("x")+`}]`))
	}
	const metadata = `"filter": "f", "path": [{"key": "k"}]`
	for _, c := range []struct{ text, want string }{
		{list(network("UnknownInput", ""), exactly("x")), ""}, // no such message: refused by the test's own decoder
		{list(typed("envoy.type.matcher.v3.HttpRequestHeaderMatchInput", `"header_name": "x"`), exactly("x")), single + "input.typed_config: this build has no input of the type"},
		{list(ip, custom("xds.type.matcher.v3.CelMatcher", `"expr_match": {}`)), single + "custom_match.expr_match: one of cel_expr_parsed"},
		{list(ip, custom("xds.type.matcher.v3.CelMatcher", `"expr_match": {"cel_expr_string": "true"}`)), single + "input: the matcher cannot take"},
		{list(ip, custom("xds.type.matcher.v3.CelMatcher", `"expr_match": {"cel_expr_string": "("}`)), single + "custom_match.expr_match.cel_expr_string"},
		{list(ip, `"value_match": {"safe_regex": {"google_re2": {}, "regex": "("}}`), single + "value_match.safe_regex.regex"},
		{list(ip, custom("envoy.extensions.matching.input_matchers.consistent_hashing.v3.ConsistentHashing", `"threshold": 3, "modulo": 2`)), single + "custom_match.threshold"},
		{list(ip, custom("envoy.extensions.matching.input_matchers.ip.v3.Ip", `"stat_prefix": "s", "cidr_ranges": [{"address_prefix": "x"}]`)), single + "custom_match.cidr_ranges[0].address_prefix"},
		{list(network("DynamicMetadataInput", metadata), exactly("x")), single + "input: the matcher cannot take"},
		{list(ip, custom("envoy.extensions.matching.input_matchers.metadata.v3.Metadata", `"value": {"bool_match": true}`)), single + "input: the matcher cannot take"},
		{tree(network("DynamicMetadataInput", metadata), `"exact_match_map": {"map": {"x": `+actionJSON("x")+`}}`), "matcher_tree.input: a tree needs text"},
		{tree(ip, `"exact_match_map": {"map": {"k": {}}}`), `matcher_tree.exact_match_map.map["k"]: one of`},
		{tree(ip, `"exact_match_map": {"map": {"k": {"action": `+typed("google.protobuf.BoolValue", `"value": true`)+`}}}`), `matcher_tree.exact_match_map.map["k"].action: no action of the type`},
		{tree(ip, `"custom_match": `+typed("google.protobuf.BoolValue", `"value": true`)), "matcher_tree.custom_match.typed_config: this build has no matcher"},
		{tree(ip, `"custom_match": `+typed("xds.type.matcher.v3.IPMatcher", `"range_matchers": [{"ranges": [{"address_prefix": "1.2.3"}], "on_match": `+actionJSON("x")+`}]`)), "matcher_tree.custom_match.range_matchers[0].ranges[0].address_prefix"},
		{domains(`"a.*"`), "matcher_tree.custom_match.domain_matchers[0].domains[0]"},
		{domains(`"*."`), "matcher_tree.custom_match.domain_matchers[0].domains[0]"},
		{domains(`"a", "a"`), "matcher_tree.custom_match.domain_matchers[0].domains[1]"},
		{`{"on_no_match": {"matcher": ` + tree(ip, `"exact_match_map": {"map": {"k": {}}}`) + `}}`, `on_no_match.matcher.matcher_tree.exact_match_map.map["k"]`},
	} {
		var pb xdsmatcherv3.Matcher
		if err := protojson.Unmarshal([]byte(c.text), &pb); err != nil {
			if c.want != "" {
				t.Errorf("%v in\n%s", err, c.text)
			}
			continue
		}
		_, err := fromproto.Tree(&pb, nil, fromproto.TreeOptions[*filter.Conn, string]{Input: fromproto.NetworkInput, Action: valueAction})
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v, want %q", err, c.want)
		}
	}
}

// FuzzTree: no bytes make a tree that panics, when it is made or when it is used.
func FuzzTree(f *testing.F) {
	for _, text := range []string{
		list(network("SourceIPInput", ""), exactly("x")),
		list(httpIn("HttpRequestQueryParamMatchInput", `"query_param": "q"`), `"value_match": {"contains": "x"}`),
		`{"on_no_match": ` + actionJSON("always") + `}`,
	} {
		raw, err := proto.Marshal(parseTree(f, text))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(raw, "/p?q=%41")
	}
	f.Fuzz(func(t *testing.T, raw []byte, path string) {
		var pb xdsmatcherv3.Matcher
		if fromproto.Unmarshal(raw, &pb) != nil {
			return
		}
		s := &filter.Stream{Session: someConn()}
		s.Conn = s.Session.Meta
		s.Request.AddID(header.Path, path)
		if tr, err := fromproto.Tree(&pb, nil, fromproto.TreeOptions[*filter.Conn, string]{Input: fromproto.NetworkInput, Action: valueAction}); err == nil {
			tr.Find(s.Session)
		}
		if tr, err := fromproto.Tree(&pb, nil, fromproto.TreeOptions[*filter.Stream, string]{Input: fromproto.HTTPInput, Action: valueAction}); err == nil {
			tr.Find(s)
		}
	})
}
