package match

import (
	"net/netip"
	"strconv"
	"testing"

	"github.com/mecha-mesh/mecha/proxy/header"
)

// TestHeader is what Envoy answers. The columns are a plain matcher, an inverted one,
// one that takes a missing header for an empty one, and one that does both.
func TestHeader(t *testing.T) {
	text := func(s String) func(HeaderOptions) Header {
		return func(o HeaderOptions) Header { return HeaderText(o, s) }
	}
	re, err := CompileRegexp("v+")
	if err != nil {
		t.Fatal(err)
	}
	present := func(p bool) func(HeaderOptions) Header {
		return func(o HeaderOptions) Header { return HeaderPresent(o, p) }
	}
	ranged := func(o HeaderOptions) Header { return HeaderRange(o, -5, 10) }
	for _, c := range []struct {
		name   string
		make   func(HeaderOptions) Header
		values []string
		want   string
	}{
		{"exact", text(Exact("v", false)), nil, "---Y"},
		{"exact", text(Exact("v", false)), []string{""}, "-Y-Y"},
		{"exact", text(Exact("v", false)), []string{"v"}, "Y-Y-"},
		{"exact", text(Exact("v", false)), []string{"w"}, "-Y-Y"},
		{"exact", text(Exact("v", false)), []string{"v", "w"}, "Y-Y-"},
		{"exact", text(Exact("v", false)), []string{"w", "v"}, "Y-Y-"},
		{"exact", text(Exact("v", false)), []string{"v,w"}, "-Y-Y"},
		{"contains", text(Contains("v,w", false)), []string{"v", "w"}, "-Y-Y"},
		{"contains", text(Contains("v,w", false)), []string{"v,w"}, "Y-Y-"},
		{"regex", text(Matching(re)), nil, "---Y"},
		{"regex", text(Matching(re)), []string{"w", "vv"}, "Y-Y-"},
		{"regex", text(Matching(re)), []string{"vw"}, "-Y-Y"},
		{"range", ranged, nil, "---Y"},
		{"range", ranged, []string{" 7 "}, "Y-Y-"},
		{"range", ranged, []string{"-5"}, "Y-Y-"},
		{"range", ranged, []string{"10"}, "-Y-Y"},
		{"range", ranged, []string{"7x"}, "-Y-Y"},
		{"range", ranged, []string{"70", "7"}, "Y-Y-"},
		{"present", present(true), nil, "-YY-"},
		{"present", present(true), []string{""}, "Y-Y-"},
		{"absent", present(false), nil, "Y--Y"},
		{"absent", present(false), []string{"v"}, "-Y-Y"},
		{"empty", text(Exact("", false)), nil, "--Y-"},
		{"empty", text(Exact("", false)), []string{""}, "Y-Y-"},
	} {
		for _, name := range []string{"X-Own", "User-Agent"} {
			m := &header.Map{}
			for _, v := range c.values {
				m.Add(HeaderName(name), v)
			}
			got := ""
			for _, o := range []HeaderOptions{{}, {Invert: true}, {MissingIsEmpty: true}, {Invert: true, MissingIsEmpty: true}} {
				o.Name = name
				h := c.make(o)
				if h.Match(m) {
					got += "Y"
				} else {
					got += "-"
				}
			}
			if got != c.want {
				t.Errorf("%s: %s with %q: %s, want %s", c.name, name, c.values, got, c.want)
			}
		}
	}
}

func TestParseInt(t *testing.T) {
	for _, text := range []string{
		"0", "-0", "+7", "-7", "9223372036854775807", "-9223372036854775808", "9223372036854775808", "-9223372036854775809",
		"99999999999999999999", "", "-", "+", "1x", "x", "--1", "92233720368547758070",
	} {
		want, err := strconv.ParseInt(text, 10, 64)
		if got, ok := parseInt(text); ok != (err == nil) || ok && got != want {
			t.Errorf("%q: %d, %v, want %d, %v", text, got, ok, want, err)
		}
	}
}

func TestHostIsAuthority(t *testing.T) {
	m := &header.Map{}
	m.AddID(header.Authority, "a")
	h := HeaderText(HeaderOptions{Name: "Host"}, Exact("a", false))
	if !h.Match(m) {
		t.Error("host does not match :authority")
	}
}

func TestQueryValue(t *testing.T) {
	for _, c := range []struct {
		path, name, want string
		ok               bool
	}{
		{"/?a=1&b", "a", "1", true}, {"/?a=1&b", "b", "", true}, {"/?a=1&a=2", "a", "1", true},
		{"/?a=1;b=2", "a", "1;b=2", true}, {"/?ab=1", "a", "", false}, {"/", "a", "", false}, {"/?", "", "", false},
		{"/?a=x%20y", "a", "x%20y", true}, {"/?b#a=1", "a", "", false}, {"/?&&a=1", "a", "1", true}, {"a=1", "a", "", false},
		{"/?a==", "a", "=", true}, {"/?x=/?a=1", "a", "", false},
	} {
		if got, ok := QueryValue(c.path, c.name); got != c.want || ok != c.ok {
			t.Errorf("%s of %s: %q, %v", c.name, c.path, got, ok)
		}
	}
}

func TestPathCovers(t *testing.T) {
	re, err := CompileRegexp("/r.*")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		p    Path
		path string
		want int // -1: no match
	}{
		{PathPrefix("/a", false), "/ab", 2}, {PathPrefix("/A", true), "/ab", 2}, {PathPrefix("/A", false), "/ab", -1},
		{PathExact("/a", false), "/a", 2}, {PathExact("/a", false), "/ab", -1}, {PathExact("/A", true), "/a", 2},
		{PathSeparated("/a", false), "/a/b", 2}, {PathSeparated("/a", false), "/a", 2}, {PathSeparated("/a", false), "/ab", -1},
		{PathRegexp(re), "/rx", 3}, {PathRegexp(re), "/x", -1},
	} {
		got := -1
		if c.p.Match(c.path) {
			got, _ = c.p.Covers(c.path)
		}
		if got != c.want {
			t.Errorf("%+v on %s: %d, want %d", c.p, c.path, got, c.want)
		}
	}
}

func TestCIDRs(t *testing.T) {
	c := CIDRs{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("fd00::/8")}
	for addr, want := range map[string]bool{"10.1.2.3": true, "11.0.0.1": false, "::ffff:10.1.2.3": true, "fd12::1": true, "::1": false} {
		if got := c.Match(netip.MustParseAddr(addr)); got != want {
			t.Errorf("%s: %v", addr, got)
		}
	}
	if c.Match(netip.Addr{}) {
		t.Error("no address matches")
	}
}

// TestAllocs: no matcher costs memory.
func TestAllocs(t *testing.T) {
	if raceEnabled {
		t.Skip("under the race detector")
	}
	re, err := CompileRegexp("[a-c]+/x?")
	if err != nil {
		t.Fatal(err)
	}
	m := &header.Map{}
	m.AddID(header.Path, "/p?a=1")
	m.Add("x", "ABC/x")
	m.Add("x", "7")
	m.Add("cookie", `a=b; k="v"`)
	hs := Headers{
		HeaderText(HeaderOptions{Name: "x"}, Contains("bc", true)), HeaderRange(HeaderOptions{Name: "x"}, 0, 9),
		HeaderPresent(HeaderOptions{Name: "y"}, false),
	}
	rex := HeaderText(HeaderOptions{Name: "x", Invert: true}, Matching(re))
	q := Query{Name: "a", Text: Prefix("1", false)}
	k := Cookie{Name: "k", Text: Exact("v", false)}
	p := PathSeparated("/p", false)
	if n := testing.AllocsPerRun(200, func() {
		path := m.Value(header.Path)
		if !hs.Match(m) || !rex.Match(m) || !q.Match(path) || !p.Match(WithoutQuery(path)) || !k.Match(m) {
			t.Fatal("no match")
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
