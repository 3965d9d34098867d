package stats

import (
	"slices"
	"strings"
	"testing"
)

func rule(t *testing.T, label, expr string) TagRule {
	t.Helper()
	r, err := NewTagRule(label, expr)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// tagged is a store with the names that Envoy 1.40 was asked about.
func tagged(tags *Tags) *Store {
	st := NewStore()
	st.SetTags(tags)
	cl := st.Scope("cluster").Tag("envoy_cluster_name", "my.dotted.web")
	cl.Counter("lb_healthy_panic", "Panic.").Inc()
	var codes struct {
		Codes CodeCounters `stat:"upstream_rq" help:"Responses."`
	}
	cl.Bind(&codes)
	codes.Codes.Count(503)
	l := st.Scope("listener").Tag("envoy_listener_address", "127.0.0.1_29002")
	l.Counter("downstream_cx_total", "Connections.").Add(2)
	var classes struct {
		Classes ClassCounters `stat:"downstream_rq" help:"Responses."`
	}
	l.Child("http").Tag("envoy_http_conn_manager_prefix", "in").Bind(&classes)
	classes.Classes.Count(200)
	st.Scope("istio").Tag("reporter", "source").Counter("requests_total", "Requests.").Inc()
	return st
}

// The rules and what becomes of the names are what Envoy 1.40 was asked, and answered.
func TestTagRules(t *testing.T) {
	st := tagged(&Tags{
		Defaults: map[string]bool{"envoy_response_code_class": true},
		Rules: []TagRule{
			rule(t, "cn", `^cluster\.((.+?)\.)`), rule(t, "cn", "(upstream)"),
			rule(t, "lst", `^listener(?=\.).*?\.http\.((.*?)\.)`), rule(t, "emp", "nonexist(a)?|(downstream_cx_)total"),
		},
	})
	got := promOf(st, Query{UsedOnly: true})
	for _, want := range []string{
		`envoy_cluster_dotted_web_lb_healthy_panic{cn="my"} 1`,
		`envoy_cluster_my_dotted_web__rq_503{cn="upstream"} 1`,
		`envoy_cluster_my_dotted_web__rq_xx{cn="upstream",envoy_response_code_class="5"} 1`,
		`envoy_listener_127_0_0_1_29002_downstream_cx_total{emp="downstream_cx_"} 2`,
		`envoy_listener_127_0_0_1_29002_http_downstream_rq_xx{lst="in",envoy_response_code_class="2"} 1`,
		`envoy_istio_requests_total{reporter="source"} 1`, // not Envoy's: stays
	} {
		if !strings.Contains(got, want+"\n") {
			t.Errorf("lacks %s:\n%s", want, got)
		}
	}
}

func TestDefaultTagsStay(t *testing.T) {
	plain := promOf(tagged(nil), Query{})
	if got := promOf(tagged(&Tags{AllDefaults: true}), Query{}); got != plain {
		t.Errorf("got\n%s\nwant\n%s", got, plain)
	}
	for _, want := range []string{
		`envoy_cluster_upstream_rq{envoy_response_code="503",envoy_cluster_name="my.dotted.web"} 1`,
		`envoy_listener_http_downstream_rq_xx{envoy_response_code_class="2",envoy_http_conn_manager_prefix="in",envoy_listener_address="127.0.0.1_29002"} 1`,
	} {
		if !strings.Contains(plain, want+"\n") {
			t.Errorf("lacks %s:\n%s", want, plain)
		}
	}
}

// The expressions that Istio's bootstrap has.
func TestIstioRulesCompile(t *testing.T) {
	for _, expr := range []string{
		`^cluster\.((.+?(\..+?\.svc\.cluster\.local)?)\.)`, `^cluster(\.(.+);)`, `^tcp\.((.*?)\.)\w+?$`, `_rq(_(\.d{3}))$`, `_rq(_(\dxx))$`,
		`^listener(?=\.).*?\.http\.(((?:[_.[:digit:]]*|[_\[\]aAbBcCdDeEfF[:digit:]]*))\.)`, `^http(\.(.+);)`,
		`^listener\.(((?:[_.[:digit:]]*|[_\[\]aAbBcCdDeEfF[:digit:]]*))\.)`, `^mongo\.(.+?)\.(collection|cmd|cx_|op_|delays_|decoding_)(.*?)$`,
		`(reporter=\.=(.*?);\.;)`, `(cache\.(.+?)\.)`, `(tag\.(.+?);\.)`, `rbac(\.(allowed|denied))`, `(\.istio_dry_run_(allow|deny)_)`,
	} {
		if _, err := NewTagRule("x", expr); err != nil {
			t.Errorf("%s: %v", expr, err)
		}
	}
	for expr, want := range map[string]string{"a(?!b)(c)": "look-ahead", "(": "missing", "abc": "group"} {
		if _, err := NewTagRule("x", expr); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", expr, err, want)
		}
	}
}

// What the matcher leaves out costs nothing but its struct.
func TestLeftOut(t *testing.T) {
	st := NewStore()
	st.SetMatcher(func(name string) bool { return strings.HasPrefix(name, "cluster.a.") })
	var a, b clusterStats
	st.Scope("cluster").Tag("envoy_cluster_name", "a").Bind(&a)
	sc := st.Scope("cluster").Tag("envoy_cluster_name", "b")
	sc.Bind(&b)
	a.Time.Record(5)
	b.Time.Record(5)
	sc.Histogram("other", "Other.").Record(7)
	if a.Time.Count() != 1 || b.Time.Count() != 0 || b.Time.Used() {
		t.Errorf("counted %d and %d values", a.Time.Count(), b.Time.Count())
	}
	sc.Counter("n", "N.").Inc()
	if sc.named != nil {
		t.Errorf("%d metrics that nobody wants are kept", len(sc.named))
	}
	var names []string
	st.Each(func(m Metric) { names = append(names, m.Name) })
	if i := slices.IndexFunc(names, func(n string) bool { return !strings.HasPrefix(n, "cluster.a.") }); i >= 0 {
		t.Errorf("%s is shown", names[i])
	}
}

func FuzzTagRule(f *testing.F) {
	f.Add(`^cluster\.((.+?)\.)`, "cluster.a.b")
	f.Add(`(?=\.).*?\.(x)`, ".a.x")
	f.Fuzz(func(t *testing.T, expr, name string) {
		r, err := NewTagRule("l", expr)
		if err != nil {
			return
		}
		m := Metric{Name: name}
		(&Tags{Rules: []TagRule{r}}).extract(&m)
		if f := m.family(); len(f) > len(name) {
			t.Errorf("%q became %q", name, f)
		}
	})
}
