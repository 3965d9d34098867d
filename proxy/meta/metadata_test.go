package meta_test

import (
	"net/netip"
	"reflect"
	"testing"

	"github.com/mecha-mesh/mecha/proxy/meta"
)

func TestMetadata(t *testing.T) {
	var m meta.Metadata
	if _, ok := m.Find("a", "x"); ok {
		t.Error("something in nothing")
	}
	m.Set("a", "x", map[string]any{"y": "z", "null": nil})
	m.Set("a", "n", 1.0)
	for _, c := range []struct {
		ns   string
		path []string
		want any
		ok   bool
	}{
		{"a", []string{"x", "y"}, "z", true},
		{"a", []string{"x", "null"}, nil, true},
		{"a", []string{"x", "w"}, nil, false},
		{"a", []string{"n", "y"}, nil, false},
		{"a", []string{"n"}, 1.0, true},
		{"b", []string{"n"}, nil, false},
		{"a", nil, m.Namespace("a"), true},
	} {
		if v, ok := m.Find(c.ns, c.path...); ok != c.ok || !reflect.DeepEqual(v, c.want) {
			t.Errorf("Find(%q, %q) = %v, %v", c.ns, c.path, v, ok)
		}
	}
	m.Reset()
	if _, ok := m.Find("a", "n"); ok {
		t.Error("Reset has left something")
	}
}

func TestFromSameHost(t *testing.T) {
	at := func(s string) meta.Addr { return meta.Addr{AddrPort: netip.MustParseAddrPort(s)} }
	for _, c := range []struct {
		local, remote meta.Addr
		want          bool
	}{
		{at("10.0.0.1:80"), at("10.0.0.1:4000"), true},
		{at("10.0.0.1:80"), at("10.0.0.2:4000"), false},
		{at("10.0.0.1:80"), at("127.0.0.1:4000"), true},
		{at("10.0.0.1:80"), at("127.0.0.2:4000"), false},
		{at("[fd00::1]:80"), at("[::1]:4000"), true},
		{at("10.0.0.1:80"), meta.Addr{Path: "/x"}, true},
	} {
		if got := (&meta.Conn{Local: c.local, Remote: c.remote}).FromSameHost(); got != c.want {
			t.Errorf("%v to %v: %v", c.remote, c.local, got)
		}
	}
}
