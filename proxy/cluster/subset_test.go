package cluster

import (
	"fmt"
	"slices"
	"testing"
)

// subsetHosts are the hosts of the examples below.
func subsetHosts() *Assignment {
	var hosts []HostSpec
	for i, m := range []map[string]any{
		{"version": "1", "stage": "prod"},
		{"version": "1", "stage": "dev"},
		{"version": "2", "stage": "prod", "type": []any{"small", "big"}},
		{"version": "2", "stage": "prod"},
		{"stage": "dev"},
	} {
		hosts = append(hosts, hostLabelled(fmt.Sprintf("10.0.0.%d:80", i), m))
	}
	return assignment("web", hosts...)
}

func subsetPolicy(s Subset) Policy {
	return Policy{Kind: SubsetLB, Subset: &s, Child: &Policy{}}
}

// picked returns which hosts are picked, by their index.
func picked(t *testing.T, c *Cluster, a *Attempt) (got []int) {
	t.Helper()
	all := c.Hosts()
	for range 50 {
		h, err := c.Pick(a)
		if err != nil {
			return nil
		}
		if i := slices.Index(all, h); !slices.Contains(got, i) {
			got = append(got, i)
		}
	}
	slices.Sort(got)
	return got
}

func TestSubsets(t *testing.T) {
	version := SubsetSelector{Keys: []string{"version"}}
	both := SubsetSelector{Keys: []string{"stage", "version"}}
	with := func(s SubsetSelector, f SubsetFallback, keys ...string) SubsetSelector {
		s.Fallback, s.FallbackKeys = f, keys
		return s
	}
	selectors := []SubsetSelector{version, both}
	type m = map[string]any
	for _, tc := range []struct {
		name  string
		p     Subset
		match m
		want  string
	}{
		{"one key", Subset{Selectors: selectors, Fallback: NoFallback}, m{"version": "2"}, "[2 3]"},
		{"two keys", Subset{Selectors: selectors, Fallback: NoFallback}, m{"version": "1", "stage": "dev"}, "[1]"},
		{"no selector has the key", Subset{Selectors: selectors, Fallback: NoFallback}, m{"stage": "dev"}, "[]"},
		{"no fallback", Subset{Selectors: selectors, Fallback: NoFallback}, m{"version": "3"}, "[]"},
		{"no labels, no fallback", Subset{Selectors: selectors, Fallback: NoFallback}, nil, "[]"},
		{"any endpoint", Subset{Selectors: selectors, Fallback: AnyEndpoint}, m{"version": "3"}, "[0 1 2 3 4]"},
		{"no labels, any endpoint", Subset{Selectors: selectors, Fallback: AnyEndpoint}, nil, "[0 1 2 3 4]"},
		{"default subset", Subset{Selectors: selectors, Fallback: DefaultSubset, Default: NewLabels(m{"stage": "dev"})}, m{"version": "3"}, "[1 4]"},
		{"empty default subset", Subset{Selectors: selectors, Fallback: DefaultSubset, Default: NewLabels(m{"stage": "none"})}, m{"version": "3"}, "[]"},
		{"panic_mode_any", Subset{Selectors: selectors, Fallback: DefaultSubset, Default: NewLabels(m{"stage": "none"}), PanicModeAny: true}, m{"version": "3"}, "[0 1 2 3 4]"},
		{"a selector's fallback", Subset{Selectors: []SubsetSelector{with(version, DefaultSubset)}, Fallback: NoFallback, Default: NewLabels(m{"stage": "dev"})}, m{"version": "3"}, "[1 4]"},
		{"a selector without fallback", Subset{Selectors: []SubsetSelector{with(version, NoFallback)}, Fallback: AnyEndpoint}, m{"version": "3"}, "[]"},
		{"fewer keys", Subset{Selectors: []SubsetSelector{version, with(both, KeysSubset, "version")}, Fallback: NoFallback}, m{"version": "2", "stage": "dev"}, "[2 3]"},
		{"a list is one value", Subset{Selectors: []SubsetSelector{{Keys: []string{"type"}}}, Fallback: NoFallback}, m{"type": "big"}, "[]"},
		{"list_as_any", Subset{Selectors: []SubsetSelector{{Keys: []string{"type"}}}, Fallback: NoFallback, ListAsAny: true}, m{"type": "big"}, "[2]"},
		{"single host", Subset{Selectors: []SubsetSelector{{Keys: []string{"version"}, SingleHost: true}}, Fallback: NoFallback}, m{"version": "2"}, "[2]"},
		{"redundant keys", Subset{Selectors: selectors, Fallback: NoFallback}, m{"version": "2", "x": "y"}, "[]"},
		{"allow_redundant_keys", Subset{Selectors: selectors, Fallback: NoFallback, AllowRedundantKeys: true}, m{"version": "2", "x": "y"}, "[2 3]"},
		{"fallback_list", Subset{Selectors: selectors, Fallback: NoFallback, FallbackList: true}, m{fallbackListKey: []any{m{"version": "3"}, m{"version": "1"}}}, "[0 1]"},
		{"empty fallback_list", Subset{Selectors: selectors, Fallback: NoFallback, FallbackList: true}, m{"version": "1", fallbackListKey: []any{}}, "[0 1]"},
		{"fallback_list in vain", Subset{Selectors: selectors, Fallback: NoFallback, FallbackList: true}, m{"version": "1", fallbackListKey: []any{m{"version": "3"}, "nonsense", m{"x": "y"}}}, "[0 1]"},
		{"fallback_list beside labels", Subset{Selectors: selectors, Fallback: NoFallback, FallbackList: true}, m{"stage": "dev", fallbackListKey: []any{m{"version": "2"}, m{"version": "1"}}}, "[1]"},
	} {
		c := policyCluster(t, Options{}, subsetPolicy(tc.p), subsetHosts())
		a := &Attempt{Match: NewLabels(tc.match)}
		if got := fmt.Sprint(picked(t, c, a)); got != tc.want {
			t.Errorf("%s: hosts %s, want %s", tc.name, got, tc.want)
		}
	}
}

func TestSubsetStats(t *testing.T) {
	m := newTestManager(t, Options{Rand: seeded()})
	s := edsSpec("web")
	s.Policy = subsetPolicy(Subset{Selectors: []SubsetSelector{{Keys: []string{"version"}}, {Keys: []string{"stage"}, SingleHost: true}}, Fallback: AnyEndpoint})
	mustSet(t, m, s)
	a := subsetHosts()
	a.Cluster = s.service()
	mustAssign(t, m, a)
	c := m.Cluster("web")
	picked(t, c, &Attempt{Match: NewLabels(map[string]any{"version": "1"})})
	picked(t, c, &Attempt{})
	b := assignment(s.service(), a.Localities[0].Hosts[1:2]...) // version 1 and dev are left
	mustAssign(t, m, b)
	st := &c.running().core.lb
	got := fmt.Sprint(st.LBSubsetsActive.Value(), st.LBSubsetsCreated.Value(), st.LBSubsetsRemoved.Value(), st.LBSubsetsSelected.Value(), st.LBSubsetsFallback.Value(), st.LBSubsetsSingleDuplicate.Value())
	if got != "2 4 2 50 50 0" {
		t.Errorf("active, created, removed, selected, fallback, duplicate: %s", got)
	}
}

// The health of a subset is its own, and so is its panic.
func TestSubsetHealth(t *testing.T) {
	c := policyCluster(t, Options{}, subsetPolicy(Subset{Selectors: []SubsetSelector{{Keys: []string{"version"}}}, Fallback: NoFallback}), subsetHosts())
	c.SetFlags(c.Hosts()[2], FailedActiveHC, 0)
	a := &Attempt{Match: NewLabels(map[string]any{"version": "2"})}
	if got := fmt.Sprint(picked(t, c, a)); got != "[3]" {
		t.Errorf("with one of two ill: %s", got)
	}
	c.SetFlags(c.Hosts()[3], FailedActiveHC, 0)
	if got := fmt.Sprint(picked(t, c, a)); got != "[2 3]" {
		t.Errorf("with both ill: %s", got)
	}
}

func TestScaledLocalityWeights(t *testing.T) {
	label := func(i int, v string) HostSpec {
		return hostLabelled(fmt.Sprintf("10.0.0.%d:80", i), map[string]any{"version": v})
	}
	a := &Assignment{Localities: []Locality{
		{Zone: "a", Weight: 50, Hosts: []HostSpec{label(0, "1"), label(1, "2"), label(2, "2"), label(3, "2")}},
		{Zone: "b", Weight: 50, Hosts: []HostSpec{label(4, "1")}},
	}}
	for _, tc := range []struct {
		name         string
		aware, scale bool
		want         []float64
	}{
		{"not aware", false, false, []float64{.5, .5}},
		{"aware", true, false, []float64{.5, .5}},
		{"scaled", true, true, []float64{13.0 / 63, 50.0 / 63}},
	} {
		p := subsetPolicy(Subset{Selectors: []SubsetSelector{{Keys: []string{"version"}}}, Fallback: NoFallback, LocalityWeightAware: tc.aware, ScaleLocalityWeight: tc.scale})
		p.Child.Locality.Weighted = true
		c := policyCluster(t, Options{}, p, a)
		counts := countPicks(t, c, &Attempt{Match: NewLabels(map[string]any{"version": "1"})}, 6300)
		if !chiSquare([]int{counts[0], counts[4]}, tc.want) {
			t.Errorf("%s: %v, want %v", tc.name, counts, tc.want)
		}
	}
}

func TestSubsetPicksAllocateNothing(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	c := policyCluster(t, Options{}, subsetPolicy(Subset{Selectors: []SubsetSelector{{Keys: []string{"version"}}, {Keys: []string{"stage", "version"}, Fallback: KeysSubset, FallbackKeys: []string{"version"}}}, Fallback: AnyEndpoint, AllowRedundantKeys: true}), subsetHosts())
	c.Spec().Policy.Subset.FallbackList = true
	for _, m := range []map[string]any{{"version": "1"}, {fallbackListKey: []any{map[string]any{"version": "3"}, map[string]any{"version": "1"}}}, {"version": "2", "stage": "dev"}, {"version": "9"}, nil} {
		a := &Attempt{Match: NewLabels(m)}
		if n := testing.AllocsPerRun(100, func() { _, _ = c.Pick(a) }); n != 0 {
			t.Errorf("a pick for %v allocates %v times", m, n)
		}
	}
}
