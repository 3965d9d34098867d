package connectionlimit

import (
	"strings"
	"testing"
	"time"

	connectionlimitv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/connection_limit/v3"

	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/filter/filtertest/message"
)

func parseJSON(t *testing.T, text string) (*Config, error) {
	t.Helper()
	return parse(message.Raw(t, &connectionlimitv3.ConnectionLimit{}, text), &filter.Parser{})
}

func TestParse(t *testing.T) {
	c, err := parseJSON(t, `{"stat_prefix": "p", "max_connections": 3, "delay": "2s", "runtime_enabled": {"runtime_key": "k", "default_value": false}}`)
	if err != nil || c.Max != 3 || c.Delay != 2*time.Second || c.Enabled.Key != "k" || c.Enabled.Default {
		t.Errorf("%+v, %v", c, err)
	}
	if c, err = parseJSON(t, `{"stat_prefix": "p", "max_connections": 1}`); err != nil || !c.Enabled.Default {
		t.Errorf("%+v, %v", c, err)
	}
	for text, want := range map[string]string{
		`{"max_connections": 1}`: "stat_prefix",
		`{"stat_prefix": "p"}`:   "max_connections",
		`{"stat_prefix": "p", "max_connections": "18446744073709551615"}`: "max_connections",
		`{"stat_prefix": "p", "max_connections": 1, "delay": "-1s"}`:      "delay",
	} {
		if _, err := parseJSON(t, text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
}
