package route

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/header"
	"github.com/mecha-mesh/mecha/proxy/match"
	"github.com/mecha-mesh/mecha/proxy/mutate"
	"github.com/mecha-mesh/mecha/proxy/runtime"
)

func forward(name string) *Route {
	return &Route{RouteName: name, Forward: &ForwardAction{Cluster: name}}
}

func shares(routes []*Route, weights ...uint64) (out []Share) {
	for i, r := range routes {
		out = append(out, Share{r, runtime.UintSetting{Default: weights[i]}})
	}
	return out
}

func headers(t testing.TB, of mutate.Message, value string) []*mutate.Headers {
	t.Helper()
	h := mutate.NewHeaders(of)
	if err := h.Add("x-add", value, mutate.AppendOrAdd, false); err != nil {
		t.Fatal(err)
	}
	return []*mutate.Headers{h}
}

func stream(host, path string) *filter.Stream {
	s := &filter.Stream{}
	s.Request.AddID(header.Method, "GET")
	s.Request.AddID(header.Authority, host)
	s.Request.AddID(header.Path, path)
	s.Request.AddID(header.Scheme, "http")
	return s
}

// TestAllocs: matching, and making the request and the response what the other side is
// to see, cost no memory in steady state.
func TestAllocs(t *testing.T) {
	if raceEnabled {
		t.Skip("under the race detector")
	}
	re, err := match.CompileRegexp("/r/[a-z]+/.*")
	if err != nil {
		t.Fatal(err)
	}
	full := forward("full")
	*full.Forward = ForwardAction{Cluster: "c", HostRewrite: "h", AppendXFH: true, PrefixRewrite: "/new"}
	full.RequestMutations = headers(t, mutate.Request, "%REQ(:PATH)%")
	full.ResponseMutations = headers(t, mutate.Response, "%RESPONSE_CODE%")
	weighted, err := NewWeighted(shares([]*Route{full, full}, 90, 10), WeightedOptions{})
	if err != nil {
		t.Fatal(err)
	}
	redirect := &Route{Kind: Redirect, Redirect: &RedirectAction{Code: 301, Scheme: "https", Port: 8443, Prefix: "/n"}}
	half := runtime.FractionSetting{Default: runtime.Fraction{Numerator: 0, Denominator: 100}}.On(nil)
	table, err := NewTable("t", []*VirtualHost{
		{Name: "a", Domains: []string{"other.example", "*.other.example"}},
		{Name: "b", Domains: []string{"*.example", "x.*"}, Routes: []Entry{
			{Match: Match{Path: match.PathExact("/exact", false)}, Route: forward("exact")},
			{Match: Match{Path: match.PathPrefix("/", false), More: &Conditions{Fraction: &half}}, Route: forward("never")},
			{Match: Match{Path: match.PathRegexp(re)}, Route: forward("regex")},
			{Match: Match{Path: match.PathSeparated("/redirect", true)}, Route: redirect},
			{Match: Match{
				Path: match.PathPrefix("/old", false), More: &Conditions{
					Headers: match.Headers{match.HeaderText(match.HeaderOptions{Name: "x"}, match.Exact("v", true))},
					Query:   []match.Query{{Name: "q", Kind: match.QueryPresent}},
				},
			}, Weighted: weighted},
		}},
		{Name: "rest", Domains: []string{"*"}},
	}, Options{IgnorePort: true})
	if err != nil {
		t.Fatal(err)
	}
	s := &filter.Stream{}
	run := func(path string) *Route {
		s.Reset()
		s.Request.AddID(header.Method, "GET")
		s.Request.AddID(header.Authority, "A.Example:8080")
		s.Request.AddID(header.Path, path)
		s.Request.AddID(header.Scheme, "http")
		s.Request.Add("x", "V")
		r, _ := table.Match(s).(*Route)
		if r == nil {
			return nil
		}
		s.Response.AddID(header.Status, "200")
		if r.Kind == Redirect {
			r.RedirectReply(s).Modify(s)
			return r
		}
		if r.ClusterName(s) == "" || r.FinalizeRequest(s, true) != nil || r.FinalizeResponse(s) != nil {
			t.Fatal("not forwarded")
		}
		return r
	}
	for path, want := range map[string]string{
		"/old/p?q=1":      ":path=/new/p?q=1 :authority=h x-add=/old/p?q=1 x-envoy-original-path=/old/p?q=1 x-envoy-original-host=A.Example:8080 x-forwarded-host=A.Example:8080",
		"/r/abc/d":        ":path=/r/abc/d",
		"/Redirect/x?y=z": "location=https://A.Example:8443/n/x?y=z",
		"/nothing":        "",
	} {
		if n := testing.AllocsPerRun(200, func() { run(path) }); n != 0 {
			t.Errorf("%s: %v allocations", path, n)
		}
		for _, field := range strings.Fields(want) {
			k, v, _ := strings.Cut(field, "=")
			if got := s.Request.Get(k) + s.Response.Get(k); k != "x-add" && got != v {
				t.Errorf("%s: %s is %q, want %q", path, k, got, v)
			}
		}
	}
}

func TestWeightedShares(t *testing.T) {
	a, b, c := forward("a"), forward("b"), forward("c")
	w, err := NewWeighted(shares([]*Route{a, b, c}, 10, 0, 30), WeightedOptions{Header: "x-random"})
	if err != nil {
		t.Fatal(err)
	}
	n := map[*Route]int{}
	for i := range uint64(400) {
		s := stream("h", "/")
		s.SetRandom(i + 1)
		first := w.pick(s)
		if n[first]++; w.pick(s) != first {
			t.Fatal("a stream changes its mind")
		}
	}
	if n[a] != 100 || n[b] != 0 || n[c] != 300 {
		t.Errorf("a %d, b %d, c %d of 400", n[a], n[b], n[c])
	}
	s := stream("h", "/")
	s.SetRandom(5)
	s.Request.Add("x-random", "39")
	if w.pick(s) != c {
		t.Error("the number of the request does not choose")
	}
	s.Request.Set("x-random", "-1")
	if w.pick(s) != a {
		t.Error("what is no number must leave it to chance")
	}
}

func TestOverrides(t *testing.T) {
	r := &Route{PerFilter: []PerFilter{
		{Slot: 1, Config: "table"}, {Slot: 2, Disabled: true}, {Slot: 1, Config: "host", Disabled: true}, {Slot: 2, Config: "route"}, {Slot: 1},
	}}
	if got := r.Override(1); got != "host" {
		t.Errorf("Override(1) = %v", got)
	}
	var all []string
	r.Overrides(1, func(o any) bool { all = append(all, fmt.Sprint(o)); return true })
	if !slices.Equal(all, []string{"table", "host"}) {
		t.Errorf("Overrides(1): %v", all)
	}
	for slot, want := range map[filter.Slot][2]bool{1: {false, true}, 2: {false, true}, 3: {false, false}} {
		if off, set := r.Disabled(slot); off != want[0] || set != want[1] {
			t.Errorf("Disabled(%d) = %v, %v, want %v", slot, off, set, want)
		}
	}
	if r.Override(3) != nil {
		t.Error("a slot without configuration has one")
	}
}

func TestSource(t *testing.T) {
	s := NewSource()
	if s.Current() != nil {
		t.Error("a new source has a table")
	}
	table, err := NewTable("t", nil, Options{})
	if err != nil {
		t.Fatal(err)
	}
	s.Set(table)
	if s.Current() != filter.RouteTable(table) {
		t.Error("the table is not there")
	}
	s.Set(nil)
	if s.Current() != nil {
		t.Error("the table is still there")
	}
}

func TestParseRetryOn(t *testing.T) {
	if got, want := ParseRetryOn(" 5xx, connect-failure ,nothing,,unavailable"), On5xx|OnConnectFailure|OnUnavailable; got != want {
		t.Errorf("got %b, want %b", got, want)
	}
	all := "5xx,gateway-error,reset,reset-before-request,connect-failure,envoy-ratelimited,retriable-4xx,refused-stream," +
		"retriable-status-codes,retriable-headers,http3-post-connect-failure,cancelled,deadline-exceeded,internal,resource-exhausted,unavailable"
	if got, want := ParseRetryOn(all), OnUnavailable<<1-1; got != want {
		t.Errorf("all: %b, want %b", got, want)
	}
	if got := UnknownRetryOn("5xx, nothing ,,other", HTTPConditions); !slices.Equal(got, []string{"nothing", "other"}) {
		t.Errorf("unknown: %q", got)
	}
	if got := ParseCodes(" 503,x,-1, 409,99999,"); !slices.Equal(got, []int{503, 409}) {
		t.Errorf("codes: %v", got)
	}
}

// TestDress: answers carry what the route adds, those of the router the number of attempts,
// too, and are not changed themselves.
func TestDress(t *testing.T) {
	r := forward("c")
	answer := &filter.Reply{Code: 503}
	if r.Dress(answer) != answer {
		t.Error("an answer to which nothing is added is copied")
	}
	r.ResponseMutations, r.Forward.AttemptCountBack = headers(t, mutate.Response, "%RESPONSE_CODE%"), true
	s := stream("h", "/")
	s.Meta.Attempts = 3
	r.FinalizeReply(s)
	r.Dress(answer).Modify(s)
	if got := s.Response.Get("x-add") + " " + s.Response.Get("x-envoy-attempt-count"); got != "0 3" {
		t.Errorf("got %q", got)
	}
	if answer.Modify != nil {
		t.Error("the shared answer was changed")
	}
}
