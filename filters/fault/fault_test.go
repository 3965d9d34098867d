package fault

import (
	"fmt"
	"strings"
	"testing"

	faultv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/fault/v3"

	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/filter/filtertest/message"
	"github.com/mecha-mesh/mecha/proxy/stats"
)

func parseJSON(t *testing.T, text string) (*Config, error) {
	t.Helper()
	return parse(message.Raw(t, &faultv3.HTTPFault{}, text), &filter.Parser{})
}

func TestRefusals(t *testing.T) {
	for text, want := range map[string]string{
		`{"delay": {"percentage": {"numerator": 1}}}`:                      "delay.fault_delay_secifier: is required",
		`{"delay": {"fixed_delay": "0s"}}`:                                 "delay.fixed_delay",
		`{"abort": {"percentage": {"numerator": 1}}}`:                      "abort.error_type: is required",
		`{"abort": {"http_status": 199}}`:                                  "abort.http_status",
		`{"abort": {"grpc_status": 0}}`:                                    "abort.grpc_status",
		`{"response_rate_limit": {"percentage": {"numerator": 1}}}`:        "response_rate_limit.limit_type: is required",
		`{"response_rate_limit": {"fixed_limit": {"limit_kbps": 0}}}`:      "response_rate_limit.fixed_limit.limit_kbps",
		`{"headers": [{"name": "a", "safe_regex_match": {"regex": "("}}]}`: "headers[0].safe_regex_match.regex",
	} {
		if _, err := parseJSON(t, text); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
}

// TestClustersOfClientsAreBounded: names that come with requests do not fill the memory.
func TestClustersOfClientsAreBounded(t *testing.T) {
	c, err := parseJSON(t, `{"abort": {"http_status": 500}}`)
	if err != nil {
		t.Fatal(err)
	}
	st := stats.NewStore()
	sh := newShared(c, filter.Env{Stats: st, Parent: st.Scope("http")})
	for i := range 3 * maxDownstreams {
		if d := sh.downstream(fmt.Sprint(i)); (d != nil) != (i < maxDownstreams) {
			t.Fatalf("name %d is known: %v", i, d != nil)
		}
	}
	first := sh.downstream("0")
	if again := sh.downstream("0"); first == nil || again != first {
		t.Error("a name is forgotten")
	}
}
