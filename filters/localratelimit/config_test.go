package localratelimit

import (
	"strings"
	"testing"

	httpv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/local_ratelimit/v3"

	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/filter/filtertest/message"
)

func TestRefusals(t *testing.T) {
	const one = `{"entries": [{"key": "k", "value": "v"}], "token_bucket": {"max_tokens": 1, "fill_interval": "1s"}}`
	for text, want := range map[string]string{
		`{}`: "stat_prefix: must not be empty",
		`{"stat_prefix": "x", "token_bucket": {"max_tokens": 1, "fill_interval": "0.04s"}}`:                                                                "token_bucket.fill_interval: 40ms is less than 50ms",
		`{"stat_prefix": "x", "token_bucket": {"max_tokens": 1}}`:                                                                                          "token_bucket.fill_interval: is required",
		`{"stat_prefix": "x", "descriptors": [` + one + `, ` + one + `]}`:                                                                                  "descriptors[1]: is there twice",
		`{"stat_prefix": "x", "local_cluster_rate_limit": {}}`:                                                                                             "local_cluster_rate_limit: this build does not support",
		`{"stat_prefix": "x", "rate_limits": [{"actions": [{"generic_key": {"descriptor_value": "%NO%"}}]}]}`:                                              "rate_limits[0].actions[0].generic_key.descriptor_value",
		`{"stat_prefix": "x", "response_headers_to_add": [{"header": {"key": ":status", "value": "1"}}]}`:                                                  "response_headers_to_add[0]",
		`{"stat_prefix": "x", "local_rate_limit_per_downstream_connection": true, "descriptors": [` + strings.Replace(one, `, "value": "v"`, "", 1) + `]}`: "descriptors[0]: an entry without a value",
	} {
		raw := message.Raw(t, &httpv3.LocalRateLimit{}, text)
		if _, err := parse(raw, &filter.Parser{}); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
}
