package localratelimit_test

import (
	"testing"

	"github.com/mecha-mesh/mecha/filters/localratelimit"
	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/filter/filtertest"
)

func FuzzParse(f *testing.F) { filtertest.FuzzParse(f, localratelimit.Spec) }

// FuzzParseConns: no bytes make the parsers for connections panic, or a rate of nonsense.
func FuzzParseConns(f *testing.F) {
	f.Add([]byte("\n\x01x\x12\b\b\x01\x1a\x04\b\xe8\x07\x10\x00"))
	f.Add([]byte("\n\x01x\x12\x06\b\x01\x12\x00\x1a\x00"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		for _, parse := range []func([]byte, *filter.Parser) (*localratelimit.ConnConfig, error){localratelimit.Network.Parse, localratelimit.Listener.Parse} {
			if c, err := parse(raw, &filter.Parser{}); err == nil && !(c.Rate.PerSecond > 0) {
				t.Errorf("%+v", c.Rate)
			}
		}
	})
}

func FuzzHooks(f *testing.F) { filtertest.FuzzHooks(f, localratelimit.Spec) }

// TestAllocs: neither buckets of descriptors, of wildcards and of connections cost memory
// for each request, nor fields that tell what is left.
func TestAllocs(t *testing.T) {
	t.Run("shared", func(t *testing.T) {
		filtertest.Allocs(t, localratelimit.Spec, usual+"max_dynamic_descriptors: 2\n")
	})
	t.Run("by connection", func(t *testing.T) {
		filtertest.Allocs(t, localratelimit.Spec, usual+"local_rate_limit_per_downstream_connection: true\n")
	})
	t.Run("wildcard", func(t *testing.T) {
		filtertest.Allocs(t, localratelimit.Spec, `
stat_prefix: x
filter_enabled: {default_value: {numerator: 100}}
descriptors:
- entries: [{key: agent}]
  token_bucket: {max_tokens: 100000, fill_interval: 1s}
rate_limits:
- actions: [{request_headers: {header_name: user-agent, descriptor_key: agent}}]
`)
	})
}

// usual is the configuration whose cost is looked at.
const usual = `
stat_prefix: x
token_bucket: {max_tokens: 100000, tokens_per_fill: 100000, fill_interval: 1s}
filter_enabled: {default_value: {numerator: 100}}
filter_enforced: {default_value: {numerator: 100}}
enable_x_ratelimit_headers: DRAFT_VERSION_03
descriptors:
- entries: [{key: agent, value: test}]
  token_bucket: {max_tokens: 100000, tokens_per_fill: 100000, fill_interval: 1s}
rate_limits:
- actions: [{request_headers: {header_name: user-agent, descriptor_key: agent}}]
- actions: [{request_headers: {header_name: accept, descriptor_key: accept}}]
`

func BenchmarkEngine(b *testing.B) { filtertest.Bench(b, localratelimit.Spec, usual) }
