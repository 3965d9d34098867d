package translate

import (
	"strings"
	"testing"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/mecha-mesh/mecha/proxy/config"
)

func processOf(t *testing.T, text string) (*config.Process, []string, error) {
	t.Helper()
	var b bootstrapv3.Bootstrap
	if err := protojson.Unmarshal([]byte(text), &b); err != nil {
		t.Fatal(err)
	}
	return Process(&b)
}

func TestStatsConfig(t *testing.T) {
	c, warnings, err := processOf(t, `{"stats_config": {
		"use_all_default_tags": false,
		"stats_tags": [{"tag_name": "envoy.cluster_name"}, {"tag_name": "my.fx", "fixed_value": "v.1"},
			{"tag_name": "cn", "regex": "^cluster\\.((.+?)\\.)"}, {"tag_name": "bad", "regex": "a(?!b)(c)"}],
		"stats_matcher": {"inclusion_list": {"patterns": [{"prefix": "cluster."}, {"suffix": "LIVE", "ignore_case": true}, {"safe_regex": {"regex": "vhost\\..*"}}]}},
		"histogram_bucket_settings": [{"match": {"suffix": "ms"}, "buckets": [5, 1, 5]}]},
		"layered_runtime": {"layers": [{"name": "x", "static_layer": {"mecha": {"stats": {"max_series_per_metric": 7}}}}]}}`)
	if err != nil {
		t.Fatal(err)
	}
	s := c.Stats
	if s.Tags.AllDefaults || !s.Tags.Defaults["envoy_cluster_name"] || len(s.Tags.Rules) != 1 || s.Tags.Rules[0].Label != "cn" {
		t.Errorf("tags %+v", s.Tags)
	}
	if len(s.Fixed) != 1 || s.Fixed[0].Name != "my_fx" || s.Fixed[0].Value != "v.1" || s.MaxSeries != 7 {
		t.Errorf("fixed %v, at most %d series", s.Fixed, s.MaxSeries)
	}
	if len(warnings) != 1 || !strings.HasPrefix(warnings[0], "stats_tags[3].regex: look-ahead") {
		t.Errorf("warnings %q", warnings)
	}
	for name, want := range map[string]bool{"cluster.a": true, "server.live": true, "vhost.x": true, "a.vhost.x": false, "http.in": false} {
		if s.Keep(name) != want {
			t.Errorf("%s is kept: %v", name, !want)
		}
	}
	if b := s.Buckets; len(b) != 1 || len(b[0].Bounds) != 2 || b[0].Bounds[0] != 1 || !b[0].Match("x_ms") || b[0].Match("x") {
		t.Errorf("buckets %+v", b)
	}
}

func TestStatsConfigRefused(t *testing.T) {
	for text, want := range map[string]string{
		`{"stats_config": {"stats_tags": [{"tag_name": "x"}]}}`:                                                   `stats_config.stats_tags[0].tag_name: "x" is none of the default tags`,
		`{"stats_config": {"stats_matcher": {"exclusion_list": {"patterns": [{"safe_regex": {"regex": "("}}]}}}}`: "stats_config.stats_matcher.exclusion_list.patterns[0].safe_regex.regex: ",
		`{"stats_config": {"histogram_bucket_settings": [{"match": {"prefix": "a"}, "buckets": [-1]}]}}`:          "stats_config.histogram_bucket_settings[0].buckets[0]: ",
	} {
		if _, _, err := processOf(t, text); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%s: %v, want %s", text, err, want)
		}
	}
	for text, keeps := range map[string]bool{
		`{"stats_config": {"stats_matcher": {"reject_all": true}}}`:                               false,
		`{"stats_config": {"stats_matcher": {"exclusion_list": {"patterns": [{"exact": "a"}]}}}}`: false,
		`{"stats_config": {"stats_matcher": {"inclusion_list": {"patterns": [{"exact": "a"}]}}}}`: true,
	} {
		if c, _, err := processOf(t, text); err != nil || c.Stats.Keep("a") != keeps {
			t.Errorf("%s: %v", text, err)
		}
	}
}
