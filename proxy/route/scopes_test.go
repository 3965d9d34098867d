package route

import (
	"testing"

	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/match"
)

func oneRoute(t *testing.T, name string) *Table {
	t.Helper()
	table, err := NewTable(name, []*VirtualHost{{Name: name, Domains: []string{"*"}, Routes: []Entry{
		{Match: Match{Path: match.PathPrefix("/", false)}, Route: forward(name)},
	}}}, Options{})
	if err != nil {
		t.Fatal(err)
	}
	return table
}

// TestScopesChange: a scope is there, goes, and comes with another table, while requests
// look for it; finding it costs no memory.
func TestScopesChange(t *testing.T) {
	src := &ScopeSource{}
	scoped := NewScoped(KeyBuilder{{Header: "x-scope", Separator: ",", Pair: "=", Key: "k"}, {Header: "x-two"}}, src, "")
	s := stream("h", "/")
	s.Request.Add("x-scope", "a=b,k=one")
	s.Request.Add("x-two", "")
	find := func() string { return name(scoped.Match(s)) }
	if got := find(); got != "" {
		t.Errorf("without scopes: %q", got)
	}
	rds := NewSource()
	list := []Scope{
		{Name: "1", Key: ScopeKey("one", ""), Routes: rds},
		{Name: "2", Key: ScopeKey("two", ""), Routes: oneRoute(t, "two")},
	}
	set, err := NewScopeSet(list)
	if err != nil {
		t.Fatal(err)
	}
	src.Set(set)
	if got := find(); got != "" {
		t.Errorf("before the table has come: %q", got)
	}
	rds.Set(oneRoute(t, "one"))
	if got := find(); got != "one" {
		t.Errorf("got %q", got)
	}
	s.Request.Set("x-scope", "k=two")
	if got := find(); got != "two" {
		t.Errorf("got %q", got)
	}
	if !raceEnabled {
		fresh := &filter.Stream{}
		if n := testing.AllocsPerRun(100, func() {
			fresh.Reset()
			s.Request.CopyTo(&fresh.Request, false)
			scoped.Match(fresh)
		}); n != 0 {
			t.Errorf("%v allocations", n)
		}
	}
	list[1].Key = list[0].Key
	if _, err := NewScopeSet(list); err == nil {
		t.Error("two scopes with one key")
	}
}

// TestKeysDoNotRunTogether: fragments that together have the same bytes are not the same.
func TestKeysDoNotRunTogether(t *testing.T) {
	b := KeyBuilder{{Header: "a"}, {Header: "b"}}
	s := stream("h", "/")
	s.Request.Add("a", "xy")
	s.Request.Add("b", "z")
	if key, ok := b.Key(s); !ok || key != ScopeKey("xy", "z") || key == ScopeKey("x", "yz") {
		t.Errorf("got %q, %v", key, ok)
	}
}
