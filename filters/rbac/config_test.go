package rbac

import (
	"strings"
	"testing"

	httpv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/rbac/v3"
	networkv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/rbac/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/matching/common_inputs/network/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/rbac/matchers/upstream_ip_port/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/rbac/principals/mtls_authenticated/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"

	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/filter/filtertest/message"
)

// TestRefusals: what would not be obeyed is refused by name, with its path.
func TestRefusals(t *testing.T) {
	const yes = `{"any": true}`
	policy := func(permission, principal string) string {
		return `{"rules": {"policies": {"p": {"permissions": [` + permission + `], "principals": [` + principal + `]}}}}`
	}
	typed := func(name string) string {
		return `{"name": "n", "typed_config": {"@type": "type.googleapis.com/` + name + `"}}`
	}
	tree := func(input string) string {
		return `{"matcher": {"matcher_tree": {"input": ` + typed(input) + `, "exact_match_map": {"map": {"x": {"matcher": {}}}}}}}`
	}
	for _, c := range []struct{ name, http, network string }{
		{"no permission", `rules.policies[p].permissions: needs at least one item` + "\n" + policy("", yes), ""},
		{"any is false", `rules.policies[p].permissions[0].any` + "\n" + policy(`{"any": false}`, yes), ""},
		{"nothing", `rules.policies[p].principals[0].identifier: is required` + "\n" + policy(yes, `{}`), ""},
		{"port range", `rules.policies["p"].permissions[0].destination_port_range: 5 to 5 is not` + "\n" + policy(`{"destination_port_range": {"start": 5, "end": 5}}`, yes), ""},
		{"address", `rules.policies["p"].principals[0].or_ids.ids[0].remote_ip.address_prefix: "x" is not` + "\n" + policy(yes, `{"or_ids": {"ids": [{"remote_ip": {"address_prefix": "x"}}]}}`), ""},
		{"expression", `rules.policies["p"].condition: the expression is empty` + "\n" + `{"rules": {"policies": {"p": {"permissions": [{"any": true}], "principals": [{"any": true}], "condition": {"id": "1"}}}}}`, ""},
		{"audit", `rules.audit_logging_options: this build does not support` + "\n" + `{"rules": {"audit_logging_options": {"audit_condition": "ON_DENY"}}}`, ""},
		{"matcher", `rules.policies["p"].permissions[0].matcher.typed_config: this build does not support the matcher` + "\n" + policy(`{"matcher": `+typed("envoy.extensions.rbac.matchers.upstream_ip_port.v3.UpstreamIpPortMatcher")+`}`, yes), ""},
		{"principal", `rules.policies["p"].principals[0].custom.typed_config: this build does not support the principal` + "\n" + policy(yes, `{"custom": `+typed("google.protobuf.Empty")+`}`), ""},
		{"mtls of nothing", `rules.policies["p"].principals[0].custom.typed_config: one of san_matcher` + "\n" + policy(yes, `{"custom": `+typed(mutualTLS)+`}`), ""},
		{"input that comes later", `matcher.matcher_tree.input.typed_config: RBAC cannot match on` + "\n" + tree("envoy.type.matcher.v3.HttpResponseStatusCodeMatchInput"), ""},
		{"header of a connection", "", `rules.policies["p"].permissions[0].not_rule.header: a connection has no headers` + "\n" + policy(`{"not_rule": {"header": {"name": "a"}}}`, yes)},
		{"input of a connection", "", `matcher.matcher_tree.input.typed_config: RBAC cannot match on` + "\n" + tree("envoy.extensions.matching.common_inputs.network.v3.SourceTypeInput")},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := &filter.Parser{}
			var err error
			want, text, _ := strings.Cut(c.http, "\n")
			if c.network != "" {
				want, text, _ = strings.Cut(c.network, "\n")
				_, err = parseNetwork(message.Raw(t, &networkv3.RBAC{}, strings.Replace(text, "{", `{"stat_prefix": "x", `, 1)), p)
			} else {
				_, err = parse(message.Raw(t, &httpv3.RBAC{}, text), p)
			}
			if err == nil || !strings.HasPrefix(err.Error(), want) {
				t.Errorf("got %v, want an error that begins %q", err, want)
			}
		})
	}
}

// TestWhenConnectionsAreDecidedOn: only what other filters find out is worth waiting for.
func TestWhenConnectionsAreDecidedOn(t *testing.T) {
	for principal, late := range map[string]bool{
		`{"any": true}`: false,
		`{"not_id": {"authenticated": {"principal_name": {"exact": "a"}}}}`:                                    false,
		`{"not_id": {"filter_state": {"key": "k", "string_match": {"exact": "a"}}}}`:                           true,
		`{"metadata": {"filter": "f", "path": [{"key": "k"}], "value": {"null_match": {}}}}`:                   true,
		`{"and_ids": {"ids": [{"any": true}, {"filter_state": {"key": "k", "string_match": {"exact": ""}}}]}}`: true,
	} {
		c, err := parseNetwork(message.Raw(t, &networkv3.RBAC{}, `{"stat_prefix": "x", "shadow_rules": {"policies": {"p": {"permissions": [{"any": true}], "principals": [`+principal+`]}}}}`), &filter.Parser{})
		if err != nil || c.Late != late {
			t.Errorf("%s: late is %v (%v)", principal, c != nil && c.Late, err)
		}
	}
}
