package cluster

import (
	"fmt"
	"testing"
)

func TestLabels(t *testing.T) {
	route := NewLabels(map[string]any{"version": "1", "stage": "prod"})
	both := route.Merge(NewLabels(map[string]any{"version": "2", "az": 3.0}))
	if got := fmt.Sprint(both); got != "[{az n3;} {stage s4:prod} {version s1:2}]" {
		t.Errorf("merged labels are %s", got)
	}
	if v, ok := both.Get("version"); !ok || v != LabelValue("2") {
		t.Errorf("version is %q", v)
	}
	// No two values look the same.
	seen := map[string]any{}
	for _, v := range []any{nil, true, false, "true", "", 1.0, "1", []any{}, []any{1.0}, []any{1.0, 1.0}, []any{"1;"}, map[string]any{}, map[string]any{"a": "b"}, "a\x00", []any{"a", "b"}, []any{"as1:b"}} {
		s := LabelValue(v)
		if o, ok := seen[s]; ok {
			t.Errorf("%v and %v are both %q", o, v, s)
		}
		seen[s] = v
	}
}

func hostLabelled(addr string, labels map[string]any) HostSpec {
	hs := hostAt(addr)
	hs.Metadata = map[string]map[string]any{lbNamespace: labels}
	return hs
}

func TestRetryHostPredicates(t *testing.T) {
	c := mustSet(t, newTestManager(t, Options{Rand: seeded()}), staticSpec(
		hostLabelled("10.0.0.1:80", map[string]any{"canary": true}),
		hostLabelled("10.0.0.2:80", map[string]any{"version": []any{"1", "2"}, "stage": "prod"}),
		hostLabelled("10.0.0.3:80", map[string]any{"version": "3", "stage": "prod"}),
	))
	for _, tc := range []struct {
		name string
		a    Attempt
		want []string
	}{
		{"nothing", Attempt{HostTries: 9}, []string{"10.0.0.1:80", "10.0.0.2:80", "10.0.0.3:80"}},
		{"omit_canary_hosts", Attempt{HostTries: 9, OmitCanaries: true}, []string{"10.0.0.2:80", "10.0.0.3:80"}},
		{"omit_host_metadata", Attempt{HostTries: 9, Omit: NewLabels(map[string]any{"stage": "prod"})}, []string{"10.0.0.1:80"}},
		{"of a list any value counts", Attempt{HostTries: 9, Omit: NewLabels(map[string]any{"version": "2", "stage": "prod"})}, []string{"10.0.0.1:80", "10.0.0.3:80"}},
		{"both", Attempt{HostTries: 9, OmitCanaries: true, Omit: NewLabels(map[string]any{"version": "2"})}, []string{"10.0.0.3:80"}},
	} {
		got := map[string]bool{}
		for range 60 {
			h, err := c.Pick(&tc.a)
			if err != nil {
				t.Fatal(err)
			}
			got[h.Addr.String()] = true
		}
		if len(got) != len(tc.want) {
			t.Errorf("%s: picked %v, want %v", tc.name, got, tc.want)
		}
		for _, w := range tc.want {
			if !got[w] {
				t.Errorf("%s: %s was never picked", tc.name, w)
			}
		}
	}
}

// Where every host is rejected, the last one stands.
func TestRejectedHostsStand(t *testing.T) {
	c := mustSet(t, newTestManager(t, Options{}), staticSpec(hostLabelled("10.0.0.1:80", map[string]any{"canary": true})))
	if h, err := c.Pick(&Attempt{OmitCanaries: true, HostTries: 3}); err != nil || h == nil {
		t.Errorf("picked %v, %v", h, err)
	}
}

func TestPreviousPriorities(t *testing.T) {
	m := newTestManager(t, Options{Rand: seeded()})
	s := staticSpec()
	s.Assignment = &Assignment{Localities: []Locality{
		{Hosts: []HostSpec{hostAt("10.0.0.1:80"), hostAt("10.0.0.2:80")}},
		{Priority: 1, Hosts: []HostSpec{hostAt("10.0.1.1:80")}},
		{Priority: 2, Hosts: []HostSpec{hostAt("10.0.2.1:80")}},
	}}
	c := mustSet(t, m, s)
	priorities := func(frequency, attempts int) (got []uint32) {
		a := &Attempt{UpdateFrequency: frequency}
		for range attempts {
			h, err := c.Pick(a)
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, h.Priority)
			a.Tried = append(a.Tried, h)
		}
		return got
	}
	for _, tc := range []struct {
		frequency, attempts int
		want                string
	}{
		{0, 4, "[0 0 0 0]"},
		{1, 4, "[0 1 2 0]"}, // when all were tried it begins again
		{2, 7, "[0 0 1 1 2 2 0]"},
		{3, 4, "[0 0 0 1]"},
	} {
		if got := fmt.Sprint(priorities(tc.frequency, tc.attempts)); got != tc.want {
			t.Errorf("update_frequency %d: priorities %s, want %s", tc.frequency, got, tc.want)
		}
	}
}
