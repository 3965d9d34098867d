package rbac_test

import (
	"testing"

	"github.com/mecha-mesh/mecha/filters/rbac"
	"github.com/mecha-mesh/mecha/proxy/buffer"
	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/filter/filtertest"
	"github.com/mecha-mesh/mecha/proxy/meta"
	"github.com/mecha-mesh/mecha/proxy/stats"
)

func FuzzParse(f *testing.F) { filtertest.FuzzParse(f, rbac.Spec) }

// FuzzParseNetwork: the rules are those that FuzzParse is about.
func FuzzParseNetwork(f *testing.F) {
	for _, rules := range []string{"", "\n\x00", "\n\x15\x12\x13\n\x01p\x12\x0e\n\x06B\x04*\x02\x08\x01\x12\x04*\x02\x08\x01", "\x1a\x01s2\x00"} {
		f.Add([]byte(rules))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		c, err := rbac.Network.Parse(raw, &filter.Parser{})
		if err != nil {
			return
		}
		c.Delay = 0
		mk, err := rbac.Network.New(c, filter.Env{Stats: stats.NewStore()})
		if err != nil {
			t.Fatal(err)
		}
		conn := &filter.Conn{Meta: &meta.Conn{}}
		switch f := mk().(type) {
		case filter.ConnOpener:
			_ = f.OnConn(conn) // let through or not
		case filter.ConnReader:
			_ = f.OnRead(conn, &buffer.Buf{}, true)
		}
	})
}

func FuzzHooks(f *testing.F) { filtertest.FuzzHooks(f, rbac.Spec) }

// fiveRules is a policy of a usual size: everything is looked at before the last one
// matches.
const fiveRules = `
shadow_rules_stat_prefix: dry
track_per_rule_stats: true
shadow_rules: {action: DENY, policies: {evil: {permissions: [{header: {name: x-evil, present_match: true}}], principals: [{any: true}]}}}
rules:
  policies:
    a: {permissions: [{url_path: {path: {prefix: /admin}}}], principals: [{header: {name: x-user, string_match: {exact: root}}}]}
    b: {permissions: [{header: {name: ":method", string_match: {exact: POST}}}], principals: [{any: true}]}
    c: {permissions: [{destination_port: 1}], principals: [{remote_ip: {address_prefix: 10.0.0.0, prefix_len: 8}}]}
    d: {permissions: [{any: true}], principals: [{metadata: {filter: app, path: [{key: tier}], value: {string_match: {exact: gold}}}}]}
    e: {permissions: [{any: true}], principals: [{not_id: {header: {name: x-user, present_match: true}}}]}
`

func TestAllocs(t *testing.T) { filtertest.Allocs(t, rbac.Spec, fiveRules) }

// TestTreeAllocs: nor does a match tree cost memory.
func TestTreeAllocs(t *testing.T) {
	filtertest.Allocs(t, rbac.Spec, `
matcher:
  matcher_tree:
    input: {name: i, typed_config: {"@type": type.googleapis.com/envoy.type.matcher.v3.HttpRequestHeaderMatchInput, header_name: ":path"}}
    prefix_match_map:
      map: {"/": {action: {name: a, typed_config: {"@type": type.googleapis.com/envoy.config.rbac.v3.Action, name: all}}}}
`)
}

func BenchmarkEngine(b *testing.B) { filtertest.Bench(b, rbac.Spec, fiveRules) }
