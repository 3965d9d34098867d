package route

import (
	"fmt"
	"net/netip"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/mecha-mesh/mecha/proxy/match"
	mecharuntime "github.com/mecha-mesh/mecha/proxy/runtime"
	"github.com/mecha-mesh/mecha/proxy/stats"
)

// TestExplain: each route before the one that matches tells what of it did not.
func TestExplain(t *testing.T) {
	never := mecharuntime.FractionSetting{Default: mecharuntime.Fraction{Denominator: 100}}.On(nil)
	yes := true
	here := match.PathPrefix("/", false)
	present := func(name string) match.Headers {
		return match.Headers{match.HeaderPresent(match.HeaderOptions{Name: name}, true)}
	}
	var entries []Entry
	for _, m := range []Match{
		{Path: match.PathExact("/other", false)},
		{Connect: true},
		{Path: here, More: &Conditions{Fraction: &never}},
		{Path: here, More: &Conditions{GRPC: true}},
		{Path: here, More: &Conditions{Headers: append(present("x"), present("none")...)}},
		{Path: here, More: &Conditions{Query: []match.Query{{Name: "q", Kind: match.QueryPresent}}}},
		{Path: here, More: &Conditions{Cookies: []match.Cookie{{Name: "c"}}}},
		{Path: here, More: &Conditions{TLS: &TLS{Presented: &yes}}},
		{Path: here, More: &Conditions{Metadata: []match.Metadata{{Namespace: "n", Path: []string{"k"}, Value: match.ValuePresent(true)}}}},
		{Path: here, More: &Conditions{State: []FilterState{{Key: "k"}}}},
		{Path: here, More: &Conditions{Headers: present("x")}},
		{Path: here},
	} {
		entries = append(entries, Entry{Match: m, Route: forward("r")})
	}
	table, err := NewTable("t", []*VirtualHost{{Name: "v", Domains: []string{"*"}, Routes: entries}}, Options{})
	if err != nil {
		t.Fatal(err)
	}
	s := stream("h", "/p")
	s.Request.Add("x", "1")
	var got []string
	vh := table.Explain(s, func(i int, _ *Entry, failed Predicate) bool {
		got = append(got, failed.String())
		return true
	})
	const want = "path path runtime_fraction grpc headers[1] query_parameters[0] cookies[0] tls_context dynamic_metadata[0] filter_state[0] "
	if text := strings.Join(got, " "); text != want || vh.Name != "v" {
		t.Errorf("got %q of %s", text, vh.Name)
	}
}

// TestConditionsOfState: metadata and filter state decide, those of the connection, too.
func TestConditionsOfState(t *testing.T) {
	in := match.CIDRs{netip.MustParsePrefix("10.0.0.0/8")}
	c := &Conditions{
		Metadata: []match.Metadata{{Namespace: "n", Path: []string{"k"}, Value: match.ValueText(match.Exact("v", false))}},
		State:    []FilterState{{Key: "text", Text: match.Prefix("a", false)}, {Key: "ip", Ranges: in}, {Key: "ip6", Ranges: in, Invert: true}},
	}
	s := stream("h", "/")
	to := &target{full: "/", path: "/", raw: "/"}
	for i, step := range []func(){
		func() { s.Metadata.Set("n", "k", "v") },
		func() { s.State.Set("text", "abc") },
		func() { s.State.Set("ip", netip.MustParseAddr("10.1.1.1")) },
		func() { s.State.Set("ip6", netip.MustParseAddr("::1")) },
	} {
		if c.failed(s, to).Kind == Matched {
			t.Fatalf("matched after %d steps", i)
		}
		step()
	}
	if f := c.failed(s, to); f.Kind != Matched {
		t.Errorf("%s failed", f)
	}
}

// TestWeightsChange: the runtime has other weights than the configuration; with none left
// those of the configuration count.
func TestWeightsChange(t *testing.T) {
	rt := mecharuntime.New([]mecharuntime.Layer{{Name: "admin", Kind: mecharuntime.Admin}}, stats.NewStore())
	a, b := forward("a"), forward("b")
	w, err := NewWeighted([]Share{
		{a, mecharuntime.UintSetting{Key: "w.a", Default: 100}}, {b, mecharuntime.UintSetting{Key: "w.b", Default: 0}},
	}, WeightedOptions{Header: "n", Runtime: rt})
	if err != nil {
		t.Fatal(err)
	}
	share := func() (n int) {
		for i := range 100 {
			s := stream("h", "/")
			s.Request.Add("n", fmt.Sprint(i))
			if w.pick(s) == a {
				n++
			}
		}
		return n
	}
	set := func(pairs ...[2]string) {
		t.Helper()
		if err := rt.SetAdmin(pairs); err != nil {
			t.Fatal(err)
		}
	}
	if n := share(); n != 100 {
		t.Errorf("as configured: %d", n)
	}
	if set([2]string{"w.a", "30"}, [2]string{"w.b", "70"}); share() != 30 {
		t.Errorf("30 to 70: %d", share())
	}
	if set([2]string{"w.a", "0"}, [2]string{"w.b", "0"}); share() != 100 {
		t.Errorf("none: %d", share())
	}
}

// TestStatsGoOn: a table that follows another counts in the same counters; they go with the
// last one.
func TestStatsGoOn(t *testing.T) {
	st := stats.NewStore()
	there := func() (n int) {
		st.Each(func(m stats.Metric) {
			if m.Name == "vhost.v.vcluster.c.upstream_rq_total" {
				n++
			}
		})
		return n
	}
	first, second := &VirtualHost{}, &VirtualHost{}
	a, b := ClusterStats(st, "v", "c", first), ClusterStats(st, "v", "c", second)
	if a.Total.Inc(); b.Total.Value() != 1 || there() != 1 {
		t.Errorf("%d, %d times", b.Total.Value(), there())
	}
	if RouteStats(st, "v", "c", second) == a {
		t.Error("a route counts in a virtual cluster")
	}
	runtime.KeepAlive(first)
	runtime.KeepAlive(second)
	first, second = nil, nil
	for end := time.Now().Add(10 * time.Second); there() > 0; runtime.GC() {
		if time.Now().After(end) {
			t.Fatal("the counters stay after their tables")
		}
	}
}
