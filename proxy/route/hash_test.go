package route

import (
	"net/netip"
	"testing"

	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/header"
	"github.com/mecha-mesh/mecha/proxy/match"
	"github.com/mecha-mesh/mecha/proxy/meta"
)

func hashStream() *filter.Stream {
	s := &filter.Stream{Conn: &meta.Conn{
		Remote: meta.Addr{AddrPort: netip.MustParseAddrPort("10.0.0.1:5000")},
		Local:  meta.Addr{AddrPort: netip.MustParseAddrPort("10.0.0.2:80")},
	}}
	s.Request.AddID(header.Path, "/p?a=1&b=two")
	s.Request.Add("x-b", "2")
	s.Request.Add("x-b", "1")
	s.Request.Add("cookie", "first=1; mine=yours")
	s.State.Set("state", "text")
	return s
}

// TestHash: policies are combined as Envoy does it, in their order, and what is terminal
// ends the list only once there is a hash.
func TestHash(t *testing.T) {
	h := func(v string) uint64 { return match.Hash64(v, 0) }
	turn := func(v uint64) uint64 { return v<<1 | v>>63 }
	ip, query := HashPolicy{Kind: HashSourceIP}, HashPolicy{Kind: HashQuery, Name: "b"}
	missing := HashPolicy{Kind: HashHeader, Name: "x-none", Terminal: true}
	stop := HashPolicy{Kind: HashSourceIP, Terminal: true}
	for name, tc := range map[string]struct {
		policies []HashPolicy
		want     uint64
		ok       bool
	}{
		"none":          {nil, 0, false},
		"missing":       {[]HashPolicy{missing}, 0, false},
		"ip":            {[]HashPolicy{ip}, h("10.0.0.1"), true},
		"header values": {[]HashPolicy{{Kind: HashHeader, Name: "x-b"}}, match.Hash64("2", h("1")), true},
		"cookie":        {[]HashPolicy{{Kind: HashCookie, Name: "mine"}}, h("yours"), true},
		"state":         {[]HashPolicy{{Kind: HashState, Name: "state"}}, h("text"), true},
		"two":           {[]HashPolicy{ip, query}, turn(h("10.0.0.1")) ^ h("two"), true},
		"same twice":    {[]HashPolicy{ip, ip}, turn(h("10.0.0.1")) ^ h("10.0.0.1"), true},
		"fallback":      {[]HashPolicy{missing, stop, query}, h("10.0.0.1"), true},
	} {
		got, cookies, ok := (&ForwardAction{HashPolicies: tc.policies}).Hash(hashStream())
		if got != tc.want || ok != tc.ok || cookies != nil {
			t.Errorf("%s: %#x %v %q, want %#x %v", name, got, ok, cookies, tc.want, tc.ok)
		}
	}
}

// TestHashCookie: who has no cookie gets one, the same on each request of a connection.
func TestHashCookie(t *testing.T) {
	a := &ForwardAction{HashPolicies: []HashPolicy{{Kind: HashCookie, Name: "new", Cookie: &NewCookie{
		TTL: 90e9, Path: "/p", Attributes: []CookieAttribute{{"SameSite", "Strict"}, {"Secure", ""}},
	}}}}
	value := "9ba7da1e0bcfa1a5"
	first, cookies, _ := a.Hash(hashStream())
	if len(cookies) != 1 {
		t.Fatalf("cookies: %q", cookies)
	}
	if n := len(`new="`); len(cookies[0]) > n+16 {
		value = cookies[0][n : n+16]
	}
	if want := `new="` + value + `"; Max-Age=90; Path=/p; SameSite=Strict; Secure; HttpOnly`; cookies[0] != want {
		t.Errorf("%s, want %s", cookies[0], want)
	}
	s := hashStream()
	s.Request.Add("cookie", "new="+value)
	if again, cookies, _ := a.Hash(s); again != first || cookies != nil {
		t.Errorf("with the cookie: %#x %q, without it: %#x", again, cookies, first)
	}
}

func TestHashAllocs(t *testing.T) {
	s := hashStream()
	a := &ForwardAction{HashPolicies: []HashPolicy{
		{Kind: HashSourceIP}, {Kind: HashQuery, Name: "a"}, {Kind: HashHeader, Name: "x-b"}, {Kind: HashCookie, Name: "mine"},
	}}
	if n := testing.AllocsPerRun(100, func() { a.Hash(s) }); n > 0 && !raceEnabled {
		t.Errorf("%v allocations", n)
	}
}
