package fromproto_test

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/filter/fromproto"
	"github.com/mecha-mesh/mecha/proxy/filter/ratelimit"
	"github.com/mecha-mesh/mecha/proxy/header"
	"github.com/mecha-mesh/mecha/proxy/meta"
)

// limitsOf returns the limits of a route with these rate_limits, and its stream.
func limitsOf(t *testing.T, limits string) (ratelimit.Limits, *filter.Stream) {
	t.Helper()
	table, err := fromproto.Routes(fromJSON(t, `{"name": "t", "virtual_hosts": [{"name": "v", "domains": ["*"],
		"rate_limits": [{"actions": [{"generic_key": {"descriptor_value": "host"}}]}],
		"routes": [{"match": {"prefix": "/"}, "metadata": {"filter_metadata": {"f": {"k": {"s": "of-route"}}}},
		"route": {"cluster": "to", "rate_limits": [`+limits+`]}}]}]}`), newParser(t))
	if err != nil {
		t.Fatal(err)
	}
	s := &filter.Stream{Conn: &meta.Conn{Remote: meta.Addr{AddrPort: netip.MustParseAddrPort("10.1.2.3:4")}}}
	s.Request.AddID(header.Method, "GET")
	s.Request.AddID(header.Authority, "h")
	s.Request.AddID(header.Path, "/p?tier=gold&empty")
	s.Request.Add("x-user", "alice")
	s.Metadata.Set("f", "k", map[string]any{"s": "dynamic", "requests_per_unit": 42.0, "unit": "HOUR"})
	s.SetRandom(1)
	s.Route = table.Match(s)
	own, host, _ := s.Route.(ratelimit.Routed).RateLimits()
	if len(host) != 1 {
		t.Errorf("%d limits of the virtual host", len(host))
	}
	return own, s
}

func TestDescriptors(t *testing.T) {
	for actions, want := range map[string]string{
		`{"source_cluster": {}}`:                                                          "source_cluster=here",
		`{"destination_cluster": {}}`:                                                     "destination_cluster=to",
		`{"remote_address": {}}`:                                                          "remote_address=10.1.2.3",
		`{"masked_remote_address": {"v4_prefix_mask_len": 16}}`:                           "masked_remote_address=10.1.0.0/16",
		`{"masked_remote_address": {}}`:                                                   "masked_remote_address=10.1.2.3/32",
		`{"generic_key": {"descriptor_value": "v"}}`:                                      "generic_key=v",
		`{"generic_key": {"descriptor_key": "k", "descriptor_value": "%REQ(x-user)%-v"}}`: "k=alice-v",
		`{"generic_key": {"descriptor_value": "%REQ(x-none)%", "default_value": "d"}}`:    "generic_key=d",
		`{"request_headers": {"header_name": "X-User", "descriptor_key": "user"}}`:        "user=alice",
		`{"request_headers": {"header_name": "x-none", "descriptor_key": "user"}}`:        "none",
		`{"request_headers": {"header_name": "x-none", "descriptor_key": "user", "skip_if_absent": true}}, {"source_cluster": {}}`:                                     "source_cluster=here",
		`{"query_parameters": {"query_parameter_name": "tier", "descriptor_key": "t"}}`:                                                                                "t=gold",
		`{"query_parameters": {"query_parameter_name": "none", "descriptor_key": "t"}}`:                                                                                "none",
		`{"header_value_match": {"descriptor_value": "v", "headers": [{"name": "x-user", "present_match": true}]}}`:                                                    "header_match=v",
		`{"header_value_match": {"descriptor_value": "v", "expect_match": false, "headers": [{"name": "x-user", "present_match": true}]}}`:                             "none",
		`{"query_parameter_value_match": {"descriptor_key": "k", "descriptor_value": "v", "query_parameters": [{"name": "tier", "string_match": {"exact": "gold"}}]}}`: "k=v",
		`{"remote_address_match": {"descriptor_value": "v", "address_matcher": {"ranges": [{"address_prefix": "10.0.0.0", "prefix_len": 8}]}}}`:                        "remote_address_match=v",
		`{"dynamic_metadata": {"descriptor_key": "k", "metadata_key": {"key": "f", "path": [{"key": "k"}, {"key": "s"}]}}}`:                                            "k=dynamic",
		`{"metadata": {"descriptor_key": "k", "source": "ROUTE_ENTRY", "metadata_key": {"key": "f", "path": [{"key": "k"}, {"key": "s"}]}}}`:                           "k=of-route",
		`{"metadata": {"descriptor_key": "k", "default_value": "d", "metadata_key": {"key": "g", "path": [{"key": "k"}]}}}`:                                            "k=d",
		`{"metadata": {"descriptor_key": "k", "metadata_key": {"key": "g", "path": [{"key": "k"}]}}}`:                                                                  "none",
		`{"source_cluster": {}}, {"generic_key": {"descriptor_value": "v"}}`:                                                                                           "source_cluster=here generic_key=v",
	} {
		limits, s := limitsOf(t, `{"actions": [`+actions+`]}`)
		entries, ok := limits[0].Append(nil, s, "here")
		var got []string
		for _, e := range entries {
			got = append(got, e.Key+"="+e.Value)
		}
		if text := strings.Join(got, " "); !ok && want != "none" || ok && text != want {
			t.Errorf("%s: %q, %v; want %q", actions, text, ok, want)
		}
	}
}

func TestLimitOptions(t *testing.T) {
	limits, s := limitsOf(t, `{"stage": 2, "disable_key": "off", "actions": [{"source_cluster": {}}],
		"limit": {"dynamic_metadata": {"metadata_key": {"key": "f", "path": [{"key": "k"}]}}},
		"hits_addend": {"format": "%REQ(x-hits)%"}}`)
	l := &limits[0]
	if l.Applies(s, 0) || !l.Applies(s, 2) {
		t.Error("the stage does not count")
	}
	if n, unit, ok := l.Override.Value(s); n != 42 || unit != "HOUR" || !ok {
		t.Errorf("override %d per %s, %v", n, unit, ok)
	}
	if n, ok := l.Hits.Count(s); ok {
		t.Errorf("no header: %d hits", n)
	}
	s.Request.Add("x-hits", "7")
	if n, ok := l.Hits.Count(s); n != 7 || !ok {
		t.Errorf("%d hits, %v", n, ok)
	}
	s.Request.Set("x-hits", fmt.Sprint(uint64(1)<<63))
	if n, ok := l.Hits.Count(s); ok {
		t.Errorf("%d hits", n)
	}
}
