package dynamicforwardproxy

import (
	"strings"
	"testing"
	"time"

	sniv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/sni_dynamic_forward_proxy/v3"

	"github.com/mecha-mesh/mecha/proxy/cluster"
	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/filter/filtertest/message"
	"github.com/mecha-mesh/mecha/proxy/header"
)

func sniJSON(t testing.TB, text string) []byte {
	t.Helper()
	return message.Raw(t, &sniv3.FilterConfig{}, text)
}

func TestParseSNI(t *testing.T) {
	c, err := parseSNI(sniJSON(t, `{"port_value": 8443, "dns_cache_config": {"name": "n", "dns_lookup_family": "V6_ONLY", "dns_refresh_rate": "2s",
		"dns_min_refresh_rate": "1s", "host_ttl": "3s", "max_hosts": 7, "dns_query_timeout": "0s", "disable_dns_refresh_on_failure": true,
		"dns_failure_refresh_rate": {"base_interval": "0.1s"}, "dns_cache_circuit_breaker": {"max_pending_requests": 9},
		"preresolve_hostnames": [{"address": "a.test", "port_value": 80}], "use_tcp_for_dns_lookups": true,
		"resolved_address_filter": {"ranges": [{"address_prefix": "10.0.0.0", "prefix_len": 8}]}}}`), &filter.Parser{})
	if err != nil {
		t.Fatal(err)
	}
	f := c.Forward
	s := &f.Cache
	if c.Port != 8443 || f.Family != cluster.V6Only || !f.Resolver.TCP || s.Refresh != 2*time.Second || s.MinRefresh != time.Second || s.HostTTL != 3*time.Second ||
		s.MaxHosts != 7 || s.QueryTimeout != 0 || !s.ForgetFailed || s.FailureBase != 100*time.Millisecond || s.FailureMax != time.Second ||
		s.MaxPending != 9 || len(s.Preresolve) != 1 || len(s.Reject) != 1 {
		t.Errorf("%+v", f)
	}
	c, err = parseSNI(sniJSON(t, `{"dns_cache_config": {"name": "n"}}`), &filter.Parser{})
	if s := &c.Forward.Cache; err != nil || c.Port != 443 || s.Refresh != time.Minute || s.MinRefresh != 5*time.Second || s.HostTTL != 5*time.Minute ||
		s.MaxHosts != 1024 || s.MaxPending != 1024 || s.QueryTimeout != 5*time.Second {
		t.Errorf("%+v, %v", c, err)
	}
	for text, want := range map[string]string{
		`{}`:                       "dns_cache_config",
		`{"dns_cache_config": {}}`: "dns_cache_config.name",
		`{"dns_cache_config": {"name": "n", "max_hosts": 0}}`:                                     "max_hosts",
		`{"dns_cache_config": {"name": "n", "dns_min_refresh_rate": "0.5s"}}`:                     "dns_min_refresh_rate",
		`{"dns_cache_config": {"name": "n", "key_value_config": {}}}`:                             "key_value_config",
		`{"dns_cache_config": {"name": "n", "preresolve_hostnames": [{"address": "a"}]}}`:         "preresolve_hostnames[0]",
		`{"dns_cache_config": {"name": "n", "dns_failure_refresh_rate": {"max_interval": "1s"}}}`: "base_interval",
		`{"dns_cache_config": {"name": "n"}, "port_value": 65536}`:                                "port_value",
	} {
		if _, err := parseSNI(sniJSON(t, text), &filter.Parser{}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
}

func TestRewrite(t *testing.T) {
	for _, tc := range []struct {
		c    Config
		want string
	}{
		{Config{}, "old"}, {Config{RewriteLiteral: "new:1"}, "new:1"}, {Config{RewriteHeader: "x-to"}, "other:2"}, {Config{RewriteHeader: "x-none"}, "old"},
	} {
		var m header.Map
		m.Add(":authority", "old")
		m.Add("x-to", "other:2")
		tc.c.rewrite(&m)
		if got := m.Get(":authority"); got != tc.want {
			t.Errorf("%+v: %q, want %q", tc.c, got, tc.want)
		}
	}
}

func FuzzParseSNI(f *testing.F) {
	f.Add(sniJSON(f, `{"dns_cache_config": {"name": "n", "dns_failure_refresh_rate": {"base_interval": "0.1s"}}}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		c, err := parseSNI(raw, &filter.Parser{})
		if err == nil && (c.Port == 0 || c.Forward == nil || c.Forward.Cache.MaxHosts < 1) {
			t.Errorf("took %+v", c)
		}
	})
}
