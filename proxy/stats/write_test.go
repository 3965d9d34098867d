package stats

import (
	"encoding/json"
	"regexp"
	"strings"
	"testing"
)

// sample builds a store with one of everything.
func sample() *Store {
	st := NewStore()
	var web clusterStats
	sc := st.Scope("cluster").Tag("envoy_cluster_name", `we"b`)
	sc.Bind(&web)
	web.Total.Add(6)
	web.Active.Set(1)
	web.Responses.Count(200)
	web.Responses.Count(503)
	for _, v := range []uint64{0, 2, 2, 40} {
		web.Time.Record(v)
	}
	st.Flush()
	web.Time.Record(100)

	var hcm struct {
		Responses ClassCounters `stat:"downstream_rq" help:"Responses."`
		Idle      Histogram     `stat:"idle_ms" help:"Idle."`
	}
	l := st.Scope("listener").Tag("envoy_listener_address", "0.0.0.0_80")
	l.Child("http").Tag("envoy_http_conn_manager_prefix", "in").Bind(&hcm)
	hcm.Responses.Count(302)
	st.Scope("control_plane").Text("identifier", "Who serves.").Set("istiod\n\"1\"")
	st.Scope("server").Gauge("state", "State.").Set(0)
	st.Scope("server").Gauge("live", "Live.")
	return st
}

func TestText(t *testing.T) {
	for _, c := range []struct {
		name string
		q    Query
		want string
	}{
		{"all", Query{}, `control_plane.identifier: "istiod
"1""
cluster.we"b.cx_open: 0
cluster.we"b.upstream_cx_active: 1
cluster.we"b.upstream_rq_200: 1
cluster.we"b.upstream_rq_2xx: 1
cluster.we"b.upstream_rq_503: 1
cluster.we"b.upstream_rq_5xx: 1
cluster.we"b.upstream_rq_completed: 2
cluster.we"b.upstream_rq_total: 6
listener.0.0.0.0_80.http.in.downstream_rq_1xx: 0
listener.0.0.0.0_80.http.in.downstream_rq_2xx: 0
listener.0.0.0.0_80.http.in.downstream_rq_3xx: 1
listener.0.0.0.0_80.http.in.downstream_rq_4xx: 0
listener.0.0.0.0_80.http.in.downstream_rq_5xx: 0
listener.0.0.0.0_80.http.in.downstream_rq_completed: 1
server.live: 0
server.state: 0
cluster.we"b.upstream_rq_time: P0(0,0) P25(0,2.033333333333333) P50(2.033333333333333,2.066666666666667) P75(2.066666666666667,40.5) P90(40.5,105) P95(40.5,105) P99(40.5,105) P99.5(40.5,105) P99.9(40.5,105) P100(40.5,105)
listener.0.0.0.0_80.http.in.idle_ms: No recorded values
`},
		{"usedonly and filter", Query{UsedOnly: true, Filter: regexp.MustCompile(`^(server\.state|server\.live)`)}, "server.state: 0\n"},
		{"inverted", Query{UsedOnly: true, Invert: true, Kind: GaugeKind, Filter: regexp.MustCompile(`server`)}, "cluster.we\"b.upstream_cx_active: 1\n"},
		{"cumulative", Query{Kind: HistogramKind, UsedOnly: true, Buckets: CumulativeBuckets},
			"cluster.we\"b.upstream_rq_time: B0.5(1,1) B1(1,1) B5(3,3) B10(3,3) B25(3,3) B50(4,4) B100(4,5) B250(4,5) B500(4,5) B1000(4,5) B2500(4,5) B5000(4,5) B10000(4,5) B30000(4,5) B60000(4,5) B300000(4,5) B600000(4,5) B1.8e+06(4,5) B3.6e+06(4,5)\n"},
		{"disjoint", Query{Kind: HistogramKind, UsedOnly: true, Buckets: DisjointBuckets},
			"cluster.we\"b.upstream_rq_time: B0.5(1,1) B1(0,0) B5(2,2) B10(0,0) B25(0,0) B50(1,1) B100(0,1) B250(0,0) B500(0,0) B1000(0,0) B2500(0,0) B5000(0,0) B10000(0,0) B30000(0,0) B60000(0,0) B300000(0,0) B600000(0,0) B1.8e+06(0,0) B3.6e+06(0,0)\n"},
		{"detailed", Query{Kind: HistogramKind, UsedOnly: true, Buckets: DetailedBuckets},
			"cluster.we\"b.upstream_rq_time:\n  totals=0,0:1, 2,0.1:2, 40,1:1, 100,10:1\n  intervals=0,0:1, 2,0.1:2, 40,1:1\n  summary=P0(0,0) P25(0,2.033333333333333) P50(2.033333333333333,2.066666666666667) P75(2.066666666666667,40.5) P90(40.5,105) P95(40.5,105) P99(40.5,105) P99.5(40.5,105) P99.9(40.5,105) P100(40.5,105)\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := textOf(sample(), c.q); got != c.want {
				t.Errorf("got\n%s\nwant\n%s", got, c.want)
			}
		})
	}
}

func promOf(st *Store, q Query) string {
	var sb strings.Builder
	if err := st.WritePrometheus(&sb, q); err != nil {
		panic(err)
	}
	return sb.String()
}

func TestPrometheus(t *testing.T) {
	st := sample()
	st.SetFixedLabels([]Label{{"my.tag", "v-1"}})
	want := `# TYPE envoy_cluster_upstream_rq counter
envoy_cluster_upstream_rq{my_tag="v-1",envoy_response_code="200",envoy_cluster_name="we\"b"} 1
envoy_cluster_upstream_rq{my_tag="v-1",envoy_response_code="503",envoy_cluster_name="we\"b"} 1
# TYPE envoy_cluster_upstream_rq_completed counter
envoy_cluster_upstream_rq_completed{my_tag="v-1",envoy_cluster_name="we\"b"} 2
# TYPE envoy_cluster_upstream_rq_total counter
envoy_cluster_upstream_rq_total{my_tag="v-1",envoy_cluster_name="we\"b"} 6
# TYPE envoy_cluster_upstream_rq_xx counter
envoy_cluster_upstream_rq_xx{my_tag="v-1",envoy_response_code_class="2",envoy_cluster_name="we\"b"} 1
envoy_cluster_upstream_rq_xx{my_tag="v-1",envoy_response_code_class="5",envoy_cluster_name="we\"b"} 1
# TYPE envoy_listener_http_downstream_rq_completed counter
envoy_listener_http_downstream_rq_completed{my_tag="v-1",envoy_http_conn_manager_prefix="in",envoy_listener_address="0.0.0.0_80"} 1
# TYPE envoy_listener_http_downstream_rq_xx counter
envoy_listener_http_downstream_rq_xx{my_tag="v-1",envoy_response_code_class="3",envoy_http_conn_manager_prefix="in",envoy_listener_address="0.0.0.0_80"} 1
# TYPE envoy_cluster_upstream_cx_active gauge
envoy_cluster_upstream_cx_active{my_tag="v-1",envoy_cluster_name="we\"b"} 1
# TYPE envoy_server_state gauge
envoy_server_state{my_tag="v-1"} 0
# TYPE envoy_control_plane_identifier gauge
envoy_control_plane_identifier{my_tag="v-1",text_value="istiod\n\"1\""} 0
# TYPE envoy_cluster_upstream_rq_time histogram
envoy_cluster_upstream_rq_time_bucket{my_tag="v-1",envoy_cluster_name="we\"b",le="0.5"} 1
envoy_cluster_upstream_rq_time_bucket{my_tag="v-1",envoy_cluster_name="we\"b",le="1"} 1
envoy_cluster_upstream_rq_time_bucket{my_tag="v-1",envoy_cluster_name="we\"b",le="5"} 3
`
	got := promOf(st, Query{UsedOnly: true, TextReadouts: true})
	if !strings.HasPrefix(got, want) {
		t.Errorf("got\n%s\nwant the beginning\n%s", got, want)
	}
	for _, line := range []string{
		`_bucket{my_tag="v-1",envoy_cluster_name="we\"b",le="3600000"} 5`,
		`_bucket{my_tag="v-1",envoy_cluster_name="we\"b",le="+Inf"} 5`,
		`_sum{my_tag="v-1",envoy_cluster_name="we\"b"} 144`,
		`_count{my_tag="v-1",envoy_cluster_name="we\"b"} 5`,
	} {
		if !strings.Contains(got, "envoy_cluster_upstream_rq_time"+line+"\n") {
			t.Errorf("missing %s", line)
		}
	}
	got = promOf(sample(), Query{Filter: regexp.MustCompile("rq_time|state"), Buckets: SummaryBuckets})
	for _, line := range []string{
		"# TYPE envoy_cluster_upstream_rq_time summary\n",
		"envoy_server_state{} 0\n",
		"envoy_cluster_upstream_rq_time{envoy_cluster_name=\"we\\\"b\",quantile=\"0.5\"} 2.033333333333333\n",
		"envoy_cluster_upstream_rq_time_count{envoy_cluster_name=\"we\\\"b\"} 4\n",
	} {
		if !strings.Contains(got, line) {
			t.Errorf("summary lacks %q:\n%s", line, got)
		}
	}
}

// Two dotted names that Prometheus cannot tell apart must not break the scrape.
func TestPrometheusNeverRepeatsASeries(t *testing.T) {
	st := NewStore()
	st.Scope("a").Counter("b_c", "One.").Add(1)
	st.Scope("a").Counter("zzz", "Between.").Add(9)
	st.Scope("a_b").Counter("c", "Two.").Add(2)
	st.Scope("a").Tag("l", "x").Counter("b.c", "Labelled.").Add(4)
	want := `# TYPE envoy_a_b_c counter
envoy_a_b_c{l="x"} 4
envoy_a_b_c{} 3
# TYPE envoy_a_zzz counter
envoy_a_zzz{} 9
`
	if got := promOf(st, Query{}); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestJSON(t *testing.T) {
	for name, mode := range map[string]BucketMode{
		"quantiles": NoBuckets, "cumulative": CumulativeBuckets, "disjoint": DisjointBuckets, "detailed": DetailedBuckets,
	} {
		t.Run(name, func(t *testing.T) {
			var sb strings.Builder
			if err := sample().WriteJSON(&sb, Query{Buckets: mode}); err != nil {
				t.Fatal(err)
			}
			var doc struct {
				Stats []struct {
					Name       string          `json:"name"`
					Value      any             `json:"value"`
					Histograms json.RawMessage `json:"histograms"`
				} `json:"stats"`
			}
			if err := json.Unmarshal([]byte(sb.String()), &doc); err != nil {
				t.Fatalf("%v in %s", err, sb.String())
			}
			if n := len(doc.Stats); n != 18 {
				t.Fatalf("%d stats", n)
			}
			if s := doc.Stats[0]; s.Name != "control_plane.identifier" || s.Value != "istiod\n\"1\"" {
				t.Errorf("text is %v", s)
			}
			if s := doc.Stats[2]; s.Name != `cluster.we"b.upstream_cx_active` || s.Value != 1.0 {
				t.Errorf("gauge is %v", s)
			}
			want := map[string]string{
				"quantiles":  `{"supported_quantiles":[0,25,50,75,90,95,99,99.5,99.9,100],"computed_quantiles":[{"name":"cluster.we\"b.upstream_rq_time","values":[{"cumulative":0,"interval":0},{"cumulative":2.033333333333333,"interval":0},`,
				"cumulative": `[{"name":"cluster.we\"b.upstream_rq_time","buckets":[{"upper_bound":0.5,"interval":1,"cumulative":1},{"upper_bound":1,"interval":1,"cumulative":1},{"upper_bound":5,"interval":3,"cumulative":3},`,
				"disjoint":   `[{"name":"cluster.we\"b.upstream_rq_time","buckets":[{"upper_bound":0.5,"interval":1,"cumulative":1},{"upper_bound":1,"interval":0,"cumulative":0},{"upper_bound":5,"interval":2,"cumulative":2},`,
				"detailed":   `{"supported_percentiles":[0,25,50,75,90,95,99,99.5,99.9,100],"details":[{"name":"cluster.we\"b.upstream_rq_time","totals":[{"lower_bound":0,"width":0,"count":1},{"lower_bound":2,"width":0.1,"count":2},{"lower_bound":40,"width":1,"count":1},{"lower_bound":100,"width":10,"count":1}],"intervals":[{"lower_bound":0,"width":0,"count":1},`,
			}[name]
			if got := string(doc.Stats[17].Histograms); !strings.HasPrefix(got, want) {
				t.Errorf("got  %s\nwant %s", got, want)
			}
		})
	}
	var sb strings.Builder
	if err := NewStore().WriteJSON(&sb, Query{}); err != nil || sb.String() != `{"stats":[]}` {
		t.Errorf("empty store: %s %v", sb.String(), err)
	}
}

// A label that runs away does not take the monitoring system with it.
func TestFold(t *testing.T) {
	st := NewStore()
	st.SetMaxSeries(3)
	sc := st.Scope("vhost")
	for i, name := range []string{"d", "c", "b", "a", "e"} {
		sc.Tag("envoy_virtual_host", name).Counter("upstream_rq", "Requests.").Add(uint64(1) << i)
	}
	want := `envoy_vhost_upstream_rq{envoy_virtual_host="d"} 1
envoy_vhost_upstream_rq{envoy_virtual_host="c"} 2
envoy_vhost_upstream_rq{envoy_virtual_host="b"} 4
envoy_vhost_upstream_rq{overflow="true"} 24
`
	for i, folded := range []string{"0", "2"} {
		if got := promOf(st, Query{}); !strings.Contains(got, want) || !strings.Contains(got, "envoy_server_mecha_stats_series_folded{} "+folded+"\n") {
			t.Errorf("scrape %d: got\n%s", i, got)
		}
	}
}
