package l4

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/mecha-mesh/mecha/proxy/meta"
)

// The ports of the cases; the run against Envoy puts free ones in their place.
const (
	portA   = 8001
	portB   = 8002
	source1 = 9001
)

// asked is a connection of a case. Its zero value is plain text from 127.0.0.1 to
// 127.0.0.1, port A.
type asked struct {
	dst, src string // IP addresses
	port     uint16
	srcPort  uint16
	tls      bool
	sni      string
	alpn     []string // of TLS; for plain text what http_inspector finds: http/1.0, http/1.1 or h2c
}

func (a asked) meta() *meta.Conn {
	or := func(s string) netip.Addr {
		if s == "" {
			s = "127.0.0.1"
		}
		return netip.MustParseAddr(s)
	}
	m := &meta.Conn{ServerName: a.sni, ALPN: a.alpn, TransportProtocol: "raw_buffer"}
	if a.tls {
		m.TransportProtocol = "tls"
	}
	if a.port == 0 {
		a.port = portA
	}
	if a.srcPort == 0 {
		a.srcPort = 40000
	}
	m.Local = meta.Addr{AddrPort: netip.AddrPortFrom(or(a.dst), a.port)}
	m.Remote = meta.Addr{AddrPort: netip.AddrPortFrom(or(a.src), a.srcPort)}
	m.Direct = m.Remote
	return m
}

type matchCase struct {
	conn asked
	want string // name of the chain, "default", or "" for none
	// here says why the case cannot be shown to a real Envoy on this machine.
	here string
}

// matchGroup is a listener with its cases.
type matchGroup struct {
	name    string
	chains  []*Chain
	noDef   bool // no default_filter_chain
	cases   []matchCase
	ofIstio bool
}

func ch(name string, m Match) *Chain { return &Chain{Name: name, Match: m} }

func nets(list ...string) (out []netip.Prefix) {
	for _, s := range list {
		out = append(out, netip.MustParsePrefix(s))
	}
	return out
}

const notLoopback = "needs addresses that are not loopback"

// matchGroups is what the choice of a chain is checked with, here and by Envoy.
var matchGroups = []matchGroup{
	{name: "no chain but the default", cases: []matchCase{
		{conn: asked{}, want: "default"},
		{conn: asked{tls: true, sni: "a.example"}, want: "default"},
	}},
	{name: "match all", noDef: true, chains: []*Chain{ch("all", Match{})}, cases: []matchCase{
		{conn: asked{}, want: "all"},
		{conn: asked{port: portB, tls: true, sni: "x", alpn: []string{"h2"}}, want: "all"},
		{conn: asked{dst: "127.9.9.9", src: "127.8.8.8"}, want: "all"},
	}},
	{name: "nothing matches and no default", noDef: true, chains: []*Chain{ch("tls", Match{TransportProtocol: "tls"})}, cases: []matchCase{
		{conn: asked{}, want: ""},
		{conn: asked{tls: true}, want: "tls"},
	}},
	{name: "destination port", chains: []*Chain{
		ch("a", Match{DestinationPort: portA}),
		ch("any", Match{}),
	}, cases: []matchCase{
		{conn: asked{port: portA}, want: "a"},
		{conn: asked{port: portB}, want: "any"},
	}},
	{name: "a port is not left again", chains: []*Chain{
		ch("a tls", Match{DestinationPort: portA, TransportProtocol: "tls"}),
		ch("any", Match{}),
	}, cases: []matchCase{
		{conn: asked{port: portA, tls: true}, want: "a tls"},
		{conn: asked{port: portA}, want: "default"},
		{conn: asked{port: portB}, want: "any"},
		{conn: asked{port: portB, tls: true}, want: "any"},
	}},
	{name: "destination ranges, the longest wins", chains: []*Chain{
		ch("8", Match{PrefixRanges: nets("127.0.0.0/8")}),
		ch("24", Match{PrefixRanges: nets("127.0.5.0/24")}),
		ch("32", Match{PrefixRanges: nets("127.0.5.5/32")}),
	}, cases: []matchCase{
		{conn: asked{dst: "127.1.1.1"}, want: "8"},
		{conn: asked{dst: "127.0.5.1"}, want: "24"},
		{conn: asked{dst: "127.0.5.5"}, want: "32"},
		{conn: asked{dst: "10.0.0.1"}, want: "default", here: notLoopback},
		{conn: asked{dst: "::1", src: "::1"}, want: "default", here: "IPv4 listener"},
	}},
	{name: "a range is not left again", chains: []*Chain{
		ch("32 tls", Match{PrefixRanges: nets("127.0.5.5/32"), TransportProtocol: "tls"}),
		ch("8", Match{PrefixRanges: nets("127.0.0.0/8")}),
		ch("any", Match{}),
	}, cases: []matchCase{
		{conn: asked{dst: "127.0.5.5", tls: true}, want: "32 tls"},
		{conn: asked{dst: "127.0.5.5"}, want: "default"},
		{conn: asked{dst: "127.0.5.6", tls: true}, want: "8"},
	}},
	{name: "several ranges of one chain", chains: []*Chain{
		ch("two", Match{PrefixRanges: nets("127.0.1.0/24", "127.0.2.0/24")}),
		ch("any", Match{}),
	}, cases: []matchCase{
		{conn: asked{dst: "127.0.1.9"}, want: "two"},
		{conn: asked{dst: "127.0.2.9"}, want: "two"},
		{conn: asked{dst: "127.0.3.9"}, want: "any"},
	}},
	{name: "a host part in a range does not count", chains: []*Chain{
		ch("24", Match{PrefixRanges: []netip.Prefix{netip.MustParsePrefix("127.0.1.77/24")}}),
	}, cases: []matchCase{
		{conn: asked{dst: "127.0.1.9"}, want: "24"},
		{conn: asked{dst: "127.0.2.9"}, want: "default"},
	}},
	{name: "port before range", chains: []*Chain{
		ch("port", Match{DestinationPort: portA}),
		ch("range", Match{PrefixRanges: nets("127.0.5.0/24")}),
	}, cases: []matchCase{
		{conn: asked{port: portA, dst: "127.0.5.1"}, want: "port"},
		{conn: asked{port: portB, dst: "127.0.5.1"}, want: "range"},
		{conn: asked{port: portB, dst: "127.0.6.1"}, want: "default"},
	}},
	{name: "server names", chains: []*Chain{
		ch("exact", Match{ServerNames: []string{"a.example.com"}}),
		ch("sub", Match{ServerNames: []string{"*.example.com"}}),
		ch("subsub", Match{ServerNames: []string{"*.b.example.com"}}),
		ch("com", Match{ServerNames: []string{"*.com"}}),
		ch("any", Match{}),
	}, cases: []matchCase{
		{conn: asked{tls: true, sni: "a.example.com"}, want: "exact"},
		{conn: asked{tls: true, sni: "c.example.com"}, want: "sub"},
		{conn: asked{tls: true, sni: "x.b.example.com"}, want: "subsub"},
		{conn: asked{tls: true, sni: "b.example.com"}, want: "sub"},
		{conn: asked{tls: true, sni: "x.a.example.com"}, want: "sub"},
		{conn: asked{tls: true, sni: "example.com"}, want: "com"},
		{conn: asked{tls: true, sni: "com"}, want: "any"},
		{conn: asked{tls: true, sni: "example.org"}, want: "any"},
		{conn: asked{tls: true}, want: "any"},
		{conn: asked{}, want: "any"},
	}},
	{name: "a server name is not left again", chains: []*Chain{
		ch("exact h2", Match{ServerNames: []string{"a.example.com"}, ApplicationProtocols: []string{"h2"}}),
		ch("sub", Match{ServerNames: []string{"*.example.com"}}),
		ch("any", Match{}),
	}, cases: []matchCase{
		{conn: asked{tls: true, sni: "a.example.com", alpn: []string{"h2"}}, want: "exact h2"},
		{conn: asked{tls: true, sni: "a.example.com", alpn: []string{"http/1.1"}}, want: "default"},
		{conn: asked{tls: true, sni: "a.example.com"}, want: "default"},
		{conn: asked{tls: true, sni: "b.example.com"}, want: "sub"},
	}},
	{name: "range before server name", chains: []*Chain{
		ch("range", Match{PrefixRanges: nets("127.0.5.0/24")}),
		ch("name", Match{ServerNames: []string{"a.example.com"}}),
	}, cases: []matchCase{
		{conn: asked{dst: "127.0.5.1", tls: true, sni: "a.example.com"}, want: "range"},
		{conn: asked{dst: "127.0.6.1", tls: true, sni: "a.example.com"}, want: "name"},
		{conn: asked{dst: "127.0.6.1", tls: true, sni: "b.example.com"}, want: "default"},
	}},
	{name: "transport protocol", chains: []*Chain{
		ch("raw", Match{TransportProtocol: "raw_buffer"}),
		ch("tls", Match{TransportProtocol: "tls"}),
	}, cases: []matchCase{
		{conn: asked{}, want: "raw"},
		{conn: asked{tls: true}, want: "tls"},
	}},
	{name: "a transport protocol is not left again", chains: []*Chain{
		ch("raw http", Match{TransportProtocol: "raw_buffer", ApplicationProtocols: []string{"http/1.1"}}),
		ch("any", Match{}),
	}, cases: []matchCase{
		{conn: asked{alpn: []string{"http/1.1"}}, want: "raw http"},
		{conn: asked{alpn: []string{"http/1.0"}}, want: "default"},
		{conn: asked{}, want: "default"},
		{conn: asked{tls: true}, want: "any"},
	}},
	{name: "server name before transport protocol", chains: []*Chain{
		ch("name", Match{ServerNames: []string{"a.example.com"}}),
		ch("tls", Match{TransportProtocol: "tls"}),
	}, cases: []matchCase{
		{conn: asked{tls: true, sni: "a.example.com"}, want: "name"},
		{conn: asked{tls: true, sni: "b.example.com"}, want: "tls"},
	}},
	{name: "application protocols, the client's first", chains: []*Chain{
		ch("h2", Match{ApplicationProtocols: []string{"h2"}}),
		ch("1", Match{ApplicationProtocols: []string{"http/1.1", "http/1.0"}}),
		ch("any", Match{}),
	}, cases: []matchCase{
		{conn: asked{tls: true, alpn: []string{"h2", "http/1.1"}}, want: "h2"},
		{conn: asked{tls: true, alpn: []string{"http/1.1", "h2"}}, want: "1"},
		{conn: asked{tls: true, alpn: []string{"spdy", "h2"}}, want: "h2"},
		{conn: asked{tls: true, alpn: []string{"spdy"}}, want: "any"},
		{conn: asked{alpn: []string{"http/1.0"}}, want: "1"},
		{conn: asked{alpn: []string{"h2c"}}, want: "any"},
		{conn: asked{}, want: "any"},
	}},
	{name: "an application protocol is not left again", chains: []*Chain{
		ch("h2 from 9", Match{ApplicationProtocols: []string{"h2"}, DirectSourceRanges: nets("127.0.9.0/24")}),
		ch("1", Match{ApplicationProtocols: []string{"http/1.1"}}),
		ch("any", Match{}),
	}, cases: []matchCase{
		{conn: asked{tls: true, alpn: []string{"h2", "http/1.1"}, src: "127.0.9.1"}, want: "h2 from 9"},
		{conn: asked{tls: true, alpn: []string{"h2", "http/1.1"}}, want: "default"},
		{conn: asked{tls: true, alpn: []string{"http/1.1", "h2"}}, want: "1"},
	}},
	{name: "direct source ranges", chains: []*Chain{
		ch("24", Match{DirectSourceRanges: nets("127.0.9.0/24")}),
		ch("32", Match{DirectSourceRanges: nets("127.0.9.9/32")}),
		ch("any", Match{}),
	}, cases: []matchCase{
		{conn: asked{src: "127.0.9.1"}, want: "24"},
		{conn: asked{src: "127.0.9.9"}, want: "32"},
		{conn: asked{src: "127.0.8.1"}, want: "any"},
	}},
	{name: "source type", chains: []*Chain{
		ch("local", Match{SourceType: SameIPOrLoopback}),
		ch("external", Match{SourceType: External}),
	}, cases: []matchCase{
		{conn: asked{}, want: "local"},
		{conn: asked{src: "127.0.9.1"}, want: "external"}, // of 127.0.0.0/8 only one address counts
		{conn: asked{src: "127.0.9.1", dst: "127.0.9.1"}, want: "local"},
		{conn: asked{src: "127.0.0.1", dst: "127.0.9.1"}, want: "local"},
		{conn: asked{src: "10.0.0.5", dst: "10.0.0.5"}, want: "local", here: notLoopback},
		{conn: asked{src: "10.0.0.5", dst: "10.0.0.6"}, want: "external", here: notLoopback},
		{conn: asked{src: "::1", dst: "::1"}, want: "local", here: "IPv4 listener"},
		{conn: asked{src: "fd00::1", dst: "fd00::2"}, want: "external", here: notLoopback},
	}},
	{name: "a source type is not left again", chains: []*Chain{
		ch("local 9", Match{SourceType: SameIPOrLoopback, SourceRanges: nets("127.0.9.0/24")}),
		ch("any", Match{}),
	}, cases: []matchCase{
		{conn: asked{src: "127.0.9.1", dst: "127.0.9.1"}, want: "local 9"},
		{conn: asked{src: "127.0.0.1"}, want: "default"},
		{conn: asked{src: "127.0.8.1"}, want: "any"},
	}},
	{name: "only external", chains: []*Chain{
		ch("external", Match{SourceType: External}),
		ch("any", Match{}),
	}, cases: []matchCase{
		{conn: asked{}, want: "any"},
		{conn: asked{src: "127.0.9.1"}, want: "external"},
	}},
	{name: "source ranges", chains: []*Chain{
		ch("8", Match{SourceRanges: nets("127.0.0.0/8")}),
		ch("24", Match{SourceRanges: nets("127.0.9.0/24")}),
	}, cases: []matchCase{
		{conn: asked{src: "127.0.9.1"}, want: "24"},
		{conn: asked{src: "127.0.8.1"}, want: "8"},
		{conn: asked{src: "10.0.0.1"}, want: "default", here: notLoopback},
	}},
	{name: "source ports", chains: []*Chain{
		ch("port", Match{SourcePorts: []uint16{source1}}),
		ch("any", Match{}),
	}, cases: []matchCase{
		{conn: asked{srcPort: source1}, want: "port"},
		{conn: asked{}, want: "any"},
	}},
	{name: "a source range is not left again", chains: []*Chain{
		ch("24 port", Match{SourceRanges: nets("127.0.9.0/24"), SourcePorts: []uint16{source1}}),
		ch("8", Match{SourceRanges: nets("127.0.0.0/8")}),
	}, cases: []matchCase{
		{conn: asked{src: "127.0.9.1", srcPort: source1}, want: "24 port"},
		{conn: asked{src: "127.0.9.1"}, want: "default"},
		{conn: asked{src: "127.0.8.1"}, want: "8"},
	}},
	{name: "direct source before source type", chains: []*Chain{
		ch("direct", Match{DirectSourceRanges: nets("127.0.9.0/24")}),
		ch("local", Match{SourceType: SameIPOrLoopback}),
	}, cases: []matchCase{
		{conn: asked{src: "127.0.9.1", dst: "127.0.9.1"}, want: "direct"},
		{conn: asked{}, want: "local"},
	}},
	{name: "source type before source range", chains: []*Chain{
		ch("local", Match{SourceType: SameIPOrLoopback}),
		ch("range", Match{SourceRanges: nets("127.0.9.0/24")}),
	}, cases: []matchCase{
		{conn: asked{src: "127.0.9.1", dst: "127.0.9.1"}, want: "local"},
		{conn: asked{src: "127.0.9.1"}, want: "range"},
	}},
	{name: "Istio's permissive port", ofIstio: true, chains: []*Chain{
		ch("blackhole", Match{DestinationPort: 15006}),
		ch("mtls http", Match{DestinationPort: portA, TransportProtocol: "tls", ApplicationProtocols: []string{"istio-http/1.0", "istio-http/1.1", "istio-h2"}}),
		ch("plain http", Match{DestinationPort: portA, TransportProtocol: "raw_buffer", ApplicationProtocols: []string{"http/1.0", "http/1.1", "h2c"}}),
		ch("mtls tcp", Match{DestinationPort: portA, TransportProtocol: "tls", ApplicationProtocols: []string{"istio-peer-exchange", "istio"}}),
		ch("plain tcp", Match{DestinationPort: portA, TransportProtocol: "raw_buffer"}),
		ch("tls tcp", Match{DestinationPort: portA, TransportProtocol: "tls"}),
		ch("catchall", Match{TransportProtocol: "raw_buffer"}),
		ch("catchall http", Match{TransportProtocol: "raw_buffer", ApplicationProtocols: []string{"http/1.0", "http/1.1", "h2c"}}),
		ch("catchall tls", Match{TransportProtocol: "tls"}),
	}, cases: []matchCase{
		{conn: asked{tls: true, alpn: []string{"istio-http/1.1", "istio", "http/1.1"}}, want: "mtls http"},
		{conn: asked{tls: true, alpn: []string{"istio", "h2"}}, want: "mtls tcp"},
		{conn: asked{tls: true, alpn: []string{"h2"}}, want: "tls tcp"},
		{conn: asked{tls: true}, want: "tls tcp"},
		{conn: asked{alpn: []string{"http/1.1"}}, want: "plain http"},
		{conn: asked{alpn: []string{"h2c"}}, want: "plain http"},
		{conn: asked{}, want: "plain tcp"},
		{conn: asked{port: portB}, want: "catchall"},
		{conn: asked{port: portB, alpn: []string{"http/1.0"}}, want: "catchall http"},
		{conn: asked{port: portB, tls: true, alpn: []string{"istio"}}, want: "catchall tls"},
	}},
	{name: "addresses of two families", chains: []*Chain{
		ch("v6", Match{PrefixRanges: nets("fd00::/8")}),
		ch("v6 all", Match{PrefixRanges: nets("::/0")}),
		ch("v4 all", Match{PrefixRanges: nets("0.0.0.0/0")}),
	}, cases: []matchCase{
		{conn: asked{dst: "fd00::1"}, want: "v6", here: "IPv4 listener"},
		{conn: asked{dst: "2001:db8::1"}, want: "v6 all", here: "IPv4 listener"},
		{conn: asked{dst: "127.0.0.1"}, want: "v4 all"},
	}},
	{name: "IPv4 in IPv6", chains: []*Chain{
		ch("mapped", Match{PrefixRanges: nets("::ffff:127.0.5.0/120")}),
	}, cases: []matchCase{
		{conn: asked{dst: "127.0.5.1"}, want: "mapped", here: "Envoy keeps such a range in its IPv6 part"},
	}},
}

func chainName(chains []*Chain, i int) string {
	switch {
	case i == none:
		return ""
	case i == len(chains):
		return "default"
	}
	return chains[i].Name
}

func TestFilterChainMatch(t *testing.T) {
	n := 0
	for _, g := range matchGroups {
		m, err := newMatcher(g.chains, !g.noDef)
		if err != nil {
			t.Errorf("%s: %v", g.name, err)
			continue
		}
		for _, c := range g.cases {
			n++
			if got := chainName(g.chains, m.find(c.conn.meta())); got != c.want {
				t.Errorf("%s: %+v: chain %q, want %q", g.name, c.conn, got, c.want)
			}
		}
	}
	if n < 60 {
		t.Errorf("only %d cases", n)
	}
}

func TestFilterChainMatchOfUnixSocket(t *testing.T) {
	chains := []*Chain{ch("local", Match{SourceType: SameIPOrLoopback}), ch("port", Match{DestinationPort: 80}), ch("any", Match{})}
	m, err := newMatcher(chains, false)
	if err != nil {
		t.Fatal(err)
	}
	c := &meta.Conn{Local: meta.Addr{Path: "/s"}, Remote: meta.Addr{Path: "@"}, TransportProtocol: "raw_buffer"}
	if got := chainName(chains, m.find(c)); got != "local" {
		t.Errorf("chain %q", got)
	}
}

func TestFilterChainMatchErrors(t *testing.T) {
	for _, c := range []struct {
		name   string
		chains []*Chain
		want   []string
	}{
		{"twice the same", []*Chain{ch("a", Match{}), ch("b", Match{})}, []string{"filter_chains[1]", "overlapping", `"b"`, `filter_chains[0] ("a")`}},
		{"overlap in a list", []*Chain{
			ch("a", Match{ServerNames: []string{"x", "y"}}), ch("b", Match{ServerNames: []string{"z", "y"}}),
		}, []string{"filter_chains[1]", `"a"`}},
		{"the same in other words", []*Chain{
			ch("a", Match{PrefixRanges: nets("0.0.0.0/0", "::/0")}), ch("b", Match{}),
		}, []string{"overlapping"}},
		{"host parts", []*Chain{
			ch("a", Match{PrefixRanges: nets("10.1.2.3/8")}), ch("b", Match{PrefixRanges: nets("10.0.0.0/8")}),
		}, []string{"overlapping"}},
		{"partial wildcard", []*Chain{ch("a", Match{ServerNames: []string{"ok.example", "a*.example.com"}})}, []string{"filter_chains[0].filter_chain_match.server_names[1]", "partial wildcards"}},
		{"inner wildcard", []*Chain{ch("a", Match{ServerNames: []string{"*.a.*"}})}, []string{"partial wildcards"}},
		{"bare wildcard", []*Chain{ch("a", Match{ServerNames: []string{"*"}})}, []string{"partial wildcards"}},
	} {
		_, err := newMatcher(c.chains, true)
		if err == nil {
			t.Errorf("%s: accepted", c.name)
			continue
		}
		for _, w := range c.want {
			if !strings.Contains(err.Error(), w) {
				t.Errorf("%s: %v: does not say %q", c.name, err, w)
			}
		}
	}
	// A value named twice in one chain is no conflict.
	if _, err := newMatcher([]*Chain{ch("a", Match{ServerNames: []string{"x", "x"}, SourcePorts: []uint16{1, 1}, PrefixRanges: nets("10.0.0.0/8", "10.0.0.0/8")})}, true); err != nil {
		t.Error(err)
	}
}

func TestFilterChainMatchAllocs(t *testing.T) {
	g := matchGroups[len(matchGroups)-3]
	if !g.ofIstio {
		t.Fatal("another group")
	}
	m, _ := newMatcher(g.chains, true)
	c := asked{tls: true, sni: "a.b.example.com", alpn: []string{"istio-http/1.1"}}.meta()
	if n := testing.AllocsPerRun(100, func() { m.find(c) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestPredicate(t *testing.T) {
	at := func(port uint16) *meta.Conn {
		return &meta.Conn{Local: meta.Addr{AddrPort: netip.AddrPortFrom(netip.IPv4Unspecified(), port)}}
	}
	ports := func(from, to int) Predicate { return Predicate{PortFrom: from, PortTo: to} }
	p := ports(80, 90)
	q := Predicate{Or: []Predicate{ports(1, 10), {And: []Predicate{ports(20, 40), {Not: &Predicate{PortFrom: 30, PortTo: 31}}}}}}
	for _, c := range []struct {
		p    *Predicate
		port uint16
		want bool
	}{
		{nil, 80, false}, {&Predicate{Any: true}, 1, true},
		{&p, 79, false}, {&p, 80, true}, {&p, 89, true}, {&p, 90, false},
		{&q, 5, true}, {&q, 15, false}, {&q, 29, true}, {&q, 30, false}, {&q, 31, true},
	} {
		if got := c.p.Match(at(c.port)); got != c.want {
			t.Errorf("%+v of port %d: %v", c.p, c.port, got)
		}
	}
	if p.Match(&meta.Conn{Local: meta.Addr{Path: "/s"}}) {
		t.Error("a unix socket has a port")
	}
}

// FuzzFilterChainMatch compares the compiled tree with a search that knows no tree:
// level by level it keeps the chains with the most specific value and drops the rest.
func FuzzFilterChainMatch(f *testing.F) {
	f.Add([]byte{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16})
	f.Add([]byte(strings.Repeat("mecha", 20)))
	f.Fuzz(func(t *testing.T, in []byte) {
		r := bytesOf{in}
		var chains []*Chain
		for i := range 1 + r.n(6) {
			chains = append(chains, ch(fmt.Sprint(i), r.match()))
		}
		m, err := newMatcher(chains, true)
		if err != nil {
			return
		}
		for range 4 {
			c := r.conn()
			if got, want := m.find(c), slowFind(chains, c); got != want {
				t.Errorf("%+v: chain %d, want %d of %+v", c, got, want, chains)
			}
		}
	})
}

// bytesOf makes values of fuzzed bytes.
type bytesOf struct{ in []byte }

func (r *bytesOf) n(n int) int {
	if len(r.in) == 0 {
		return 0
	}
	b := r.in[0]
	r.in = r.in[1:]
	return int(b) % n
}

func (r *bytesOf) ranges() []netip.Prefix {
	return [][]netip.Prefix{nil, nil, nets("10.0.0.0/8"), nets("10.1.0.0/16"), nets("10.1.2.3/32", "fd00::/8"), nets("127.0.0.0/8")}[r.n(6)]
}

func (r *bytesOf) match() Match {
	return Match{
		DestinationPort:      [...]uint16{0, 0, 80, 81}[r.n(4)],
		PrefixRanges:         r.ranges(),
		ServerNames:          [][]string{nil, nil, {"a.b.c"}, {"*.b.c"}, {"*.c"}}[r.n(5)],
		TransportProtocol:    [...]string{"", "", "tls", "raw_buffer"}[r.n(4)],
		ApplicationProtocols: [][]string{nil, nil, {"h2"}, {"http/1.1"}, {"h2", "x"}}[r.n(5)],
		DirectSourceRanges:   r.ranges(),
		SourceType:           SourceType(r.n(3)),
		SourceRanges:         r.ranges(),
		SourcePorts:          [][]uint16{nil, nil, {1000}, {1001, 1000}}[r.n(4)],
	}
}

func (r *bytesOf) conn() *meta.Conn {
	addr := func() netip.Addr {
		return netip.MustParseAddr([...]string{"10.1.2.3", "10.1.9.9", "10.9.9.9", "192.0.2.1", "127.0.0.1", "fd00::1", "2001:db8::1"}[r.n(7)])
	}
	at := func(port uint16) meta.Addr { return meta.Addr{AddrPort: netip.AddrPortFrom(addr(), port)} }
	return &meta.Conn{
		Local: at([...]uint16{80, 81, 82}[r.n(3)]), Remote: at([...]uint16{1000, 1001, 1002}[r.n(3)]), Direct: at(1),
		ServerName:        [...]string{"", "a.b.c", "x.b.c", "c", "x.c", "b.c"}[r.n(6)],
		TransportProtocol: [...]string{"tls", "raw_buffer"}[r.n(2)],
		ALPN:              [][]string{nil, {"h2"}, {"http/1.1", "h2"}, {"x"}}[r.n(4)],
	}
}

// slowFind is the rule as it is written down: each level narrows the chains to those
// of its most specific value; there is no way back.
func slowFind(chains []*Chain, c *meta.Conn) int {
	left := map[int]bool{}
	for i := range chains {
		left[i] = true
	}
	// narrow keeps the chains of the greatest rank; a rank below 0 does not match.
	narrow := func(rank func(m *Match) int) {
		best := -1
		for i := range left {
			best = max(best, rank(&chains[i].Match))
		}
		for i := range left {
			if r := rank(&chains[i].Match); r < 0 || r != best {
				delete(left, i)
			}
		}
	}
	inRanges := func(list []netip.Prefix, a netip.Addr) int {
		if len(list) == 0 {
			return 0
		}
		best := -1
		for _, p := range list {
			if p.Contains(a) {
				best = max(best, p.Bits())
			}
		}
		return best
	}
	either := func(empty, match bool) int {
		switch {
		case match:
			return 1
		case empty:
			return 0
		}
		return -1
	}
	narrow(func(m *Match) int { return either(m.DestinationPort == 0, m.DestinationPort == c.Local.Port()) })
	narrow(func(m *Match) int { return inRanges(m.PrefixRanges, c.Local.Addr()) })
	narrow(func(m *Match) int {
		best := -1
		if len(m.ServerNames) == 0 {
			best = 0
		}
		for _, n := range m.ServerNames {
			switch {
			case n == c.ServerName:
				best = 1000
			case strings.HasPrefix(n, "*.") && strings.HasSuffix(c.ServerName, n[1:]):
				best = max(best, len(n))
			}
		}
		return best
	})
	narrow(func(m *Match) int {
		return either(m.TransportProtocol == "", m.TransportProtocol == c.TransportProtocol)
	})
	narrow(func(m *Match) int {
		best := -1
		if len(m.ApplicationProtocols) == 0 {
			best = 0
		}
		for _, a := range m.ApplicationProtocols {
			for i, offered := range c.ALPN {
				if a == offered {
					best = max(best, 1000-i)
				}
			}
		}
		return best
	})
	narrow(func(m *Match) int { return inRanges(m.DirectSourceRanges, c.Direct.Addr()) })
	narrow(func(m *Match) int {
		local := c.Remote.Addr().String() == "127.0.0.1" || c.Remote.Addr() == c.Local.Addr()
		return either(m.SourceType == AnySource, m.SourceType == SameIPOrLoopback && local || m.SourceType == External && !local)
	})
	narrow(func(m *Match) int { return inRanges(m.SourceRanges, c.Remote.Addr()) })
	narrow(func(m *Match) int {
		match := false
		for _, p := range m.SourcePorts {
			match = match || p == c.Remote.Port()
		}
		return either(len(m.SourcePorts) == 0, match)
	})
	for i := range left {
		return i
	}
	return len(chains)
}
