package admin

import (
	"slices"
	"strings"
	"testing"

	"github.com/mecha-mesh/mecha/proxy/stats"
)

func TestParseParams(t *testing.T) {
	for raw, want := range map[string]Params{
		"":                                nil,
		"usedonly":                        {{"usedonly", ""}},
		"usedonly&filter=^(a\\.b|c)$":     {{"usedonly", ""}, {"filter", "^(a\\.b|c)$"}},
		"filter=a;b+c%20d%zz%4":           {{"filter", "a;b+c d%zz%4"}},
		"&&=x&a=b=c&":                     {{"a", "b=c"}},
		"graceful=&skip_exit=false":       {{"graceful", ""}, {"skip_exit", "false"}},
		strings.Repeat("a&", 2*maxParams): slices.Repeat(Params{{"a", ""}}, maxParams),
	} {
		if got := ParseParams(raw); !slices.Equal(got, want) {
			t.Errorf("%q: %q, want %q", raw, got, want)
		}
	}
	ps := ParseParams("a=1&a=2&b")
	if ps.Get("a") != "1" || !ps.Has("b") || ps.Has("c") || ps.Get("c") != "" {
		t.Errorf("lookups in %q", ps)
	}
}

func FuzzStatsQuery(f *testing.F) {
	for _, s := range []string{
		`usedonly&filter=^(server\.state|listener_manager\.workers_started)`, "filter=(", "format=json&histogram_buckets=detailed",
		"format=prometheus&text_readouts&invert_filter&filter=%2e", "type=Histograms&histogram_buckets=disjoint", "filter=%", "filter=a{1000}{1000}",
	} {
		f.Add(s)
	}
	st := stats.NewStore()
	sc := st.Scope("cluster").Tag("envoy_cluster_name", "web")
	sc.Counter("upstream_rq_total", "Requests.").Inc()
	sc.Histogram("upstream_rq_time", "Time.").Record(3)
	sc.Text("version", "Version.").Set("v1")
	f.Fuzz(func(t *testing.T, raw string) {
		ps := ParseParams(raw)
		format, err := parseStatsFormat(ps)
		if err != nil {
			return
		}
		q, err := parseQuery(ps, format)
		if err != nil {
			return
		}
		var out strings.Builder
		for _, write := range []func() error{
			func() error { return st.WriteText(&out, q) }, func() error { return st.WriteJSON(&out, q) }, func() error { return st.WritePrometheus(&out, q) },
		} {
			if err := write(); err != nil {
				t.Fatal(err)
			}
		}
	})
}
