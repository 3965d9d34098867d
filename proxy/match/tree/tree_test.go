package tree

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/mecha-mesh/mecha/proxy/match"
)

// ctx is what the trees of these tests match: texts by name, where "?" has not arrived.
type ctx map[string]string

func input(name string) Input[ctx] {
	return func(c ctx, s *Scratch) Value {
		v, ok := c[name]
		switch {
		case !ok:
			return Value{}
		case v == "?":
			return NotYet()
		}
		return s.Append(func(b []byte) []byte { return append(b, v...) })
	}
}

func act(a string) *On[ctx, string] { return &On[ctx, string]{Action: a} }

func keep(a string) *On[ctx, string] { return &On[ctx, string]{Action: a, Keep: true} }

func next(m Matcher[ctx, string]) *On[ctx, string] { return &On[ctx, string]{Next: m} }

func is(name, v string) Predicate[ctx] {
	return &Single[ctx]{Input: input(name), Value: &String{match.Exact(v, false)}}
}

func names(in string, none *On[ctx, string], by map[string]*On[ctx, string]) *Names[ctx, string] {
	return NewNames(input(in), by, none)
}

func ranges(in string, none *On[ctx, string]) *Ranges[ctx, string] {
	return &Ranges[ctx, string]{Input: input(in), None: none}
}

func (m *Ranges[C, A]) with(p string, exclusive bool, on *On[C, A]) *Ranges[C, A] {
	m.Add(netip.MustParsePrefix(p), exclusive, on)
	return m
}

func TestFind(t *testing.T) {
	type on = map[string]*On[ctx, string]
	list := &List[ctx, string]{
		Items: []Item[ctx, string]{
			{All[ctx]{is("a", "1"), is("b", "1")}, act("both")},
			{Any[ctx]{is("a", "2"), is("b", "2")}, keep("seen")},
			{&Not[ctx]{is("a", "3")}, next(&Exact[ctx, string]{Input: input("b"), By: on{"2": act("two"), "3": keep("three")}})},
			{is("c", "1"), act("c")},
		},
		None: act("none"),
	}
	prefix := NewPrefix(input("a"), on{
		"/": act("root"), "/api": act("api"), "/api/v1": next(&Exact[ctx, string]{Input: input("b"), By: on{"x": act("x")}}), "/app": keep("app"),
	}, act("none"))
	addrs := ranges("a", act("none")).
		with("10.0.0.0/8", false, act("ten")).with("10.1.0.0/16", false, keep("one")).with("10.1.2.0/24", false, keep("two")).
		with("10.1.0.0/16", true, act("exclusive")).with("fd00::/8", false, act("six")).with("10.3.0.0/16", true, act("only"))
	domains := names("a", act("none"), on{
		"example.com": act("exact"), "*.example.com": act("sub"), "*.com": act("com"), "*": keep("all"), "*.a.example.com": keep("a"),
	})
	for i, c := range []struct {
		m       Matcher[ctx, string]
		in      ctx
		want    string
		skipped string
	}{
		{list, ctx{"a": "1", "b": "1"}, "both", ""},
		{list, ctx{"a": "1", "b": "2"}, "two", "seen"},
		{list, ctx{"a": "1", "b": "3", "c": "1"}, "c", "three"},
		{list, ctx{"a": "3", "b": "4"}, "none", ""},
		{list, ctx{}, "none", ""},
		{list, ctx{"a": "?"}, "unavailable", ""},
		{list, ctx{"a": "2", "b": "?", "c": "1"}, "unavailable", "seen"},
		{list, ctx{"a": "0", "b": "1", "c": "?"}, "unavailable", ""},
		{prefix, ctx{"a": "/x"}, "root", ""},
		{prefix, ctx{"a": "/apix"}, "api", ""},
		{prefix, ctx{"a": "/api/v1", "b": "x"}, "x", ""},
		{prefix, ctx{"a": "/api/v1", "b": "y"}, "api", ""},
		{prefix, ctx{"a": "/api/v1", "b": "?"}, "unavailable", ""},
		{prefix, ctx{"a": "/apple"}, "root", "app"},
		{prefix, ctx{"a": "x"}, "none", ""},
		{prefix, ctx{}, "none", ""},
		{prefix, ctx{"a": "?"}, "unavailable", ""},
		{addrs, ctx{"a": "10.2.0.1"}, "ten", ""},
		{addrs, ctx{"a": "10.1.0.1"}, "ten", "one"},
		{addrs, ctx{"a": "10.1.2.1"}, "ten", "two one"},
		{addrs, ctx{"a": "10.3.0.1"}, "only", ""},
		{addrs, ctx{"a": "fd00::1"}, "six", ""},
		{addrs, ctx{"a": "::ffff:10.2.0.1"}, "none", ""},
		{addrs, ctx{"a": "10.2.0"}, "none", ""},
		{addrs, ctx{}, "none", ""},
		{domains, ctx{"a": "example.com"}, "exact", ""},
		{domains, ctx{"a": "www.example.com"}, "sub", ""},
		{domains, ctx{"a": "x.a.example.com"}, "sub", "a"},
		{domains, ctx{"a": "other.com"}, "com", ""},
		{domains, ctx{"a": "com"}, "none", "all"},
		{domains, ctx{"a": "*.example.com"}, "sub", ""},
		{domains, ctx{"a": ""}, "none", ""},
		{&Always[ctx, string]{act("always")}, ctx{}, "always", ""},
		{&Always[ctx, string]{}, ctx{}, "", ""},
		{&Exact[ctx, string]{Input: input("a"), By: on{"x": keep("kept")}, None: keep("too")}, ctx{"a": "x"}, "", "kept too"},
		{&Exact[ctx, string]{Input: input("a"), By: on{"x": {Next: prefix, Keep: true}}}, ctx{"a": "x"}, "", "none"},
	} {
		var skipped []string
		got, res := New[ctx, string](c.m).FindSkipped(c.in, func(a string) { skipped = append(skipped, a) })
		if res == Unavailable {
			got = "unavailable"
		}
		if got != c.want || strings.Join(skipped, " ") != c.skipped || (res == Match) != (got != "" && res != Unavailable) {
			t.Errorf("case %d, %v: %q (%d) and skipped %q, want %q and %q", i, c.in, got, res, skipped, c.want, c.skipped)
		}
	}
}

func TestValues(t *testing.T) {
	text := func(s string) Value { return Text(s) }
	for _, c := range []struct {
		m    ValueMatcher
		v    Value
		want bool
	}{
		{&String{match.Prefix("ab", false)}, text("abc"), true},
		{&String{match.Prefix("", false)}, Value{}, false},
		{&Addresses{match.CIDRs{netip.MustParsePrefix("10.0.0.0/8")}}, text("10.1.1.1"), true},
		{&Addresses{match.CIDRs{netip.MustParsePrefix("10.0.0.0/8")}}, text("11.1.1.1"), false},
		{&Addresses{match.CIDRs{netip.MustParsePrefix("0.0.0.0/0")}}, text("10.1.1.1:80"), false},
		{&Addresses{match.CIDRs{netip.MustParsePrefix("0.0.0.0/0")}}, Value{}, false},
		{&Hashed{Threshold: 0, Modulo: 10}, text("x"), true},
		{&Hashed{Threshold: 10, Modulo: 10}, text("x"), false},
		{&Hashed{Threshold: 0, Modulo: 10}, Value{}, false},
		{&Share{Fraction: match.Fraction{Numerator: 100, Denominator: 100}}, text("x"), true},
		{&Share{Fraction: match.Fraction{Numerator: 0, Denominator: 100}}, text("x"), false},
		{&Share{Fraction: match.Fraction{Numerator: 100, Denominator: 100}}, Value{}, false},
	} {
		if got := c.m.MatchValue(c.v); got != c.want {
			t.Errorf("%T of %q: %v", c.m, c.v.Text, got)
		}
	}
}

// spec is a tree as plain data; naive says what it means without any of the code that
// is tested.
type spec struct {
	kind  string // list, exact, prefix, ranges, names, always
	input string
	items []specItem
	none  *specOn
}

type specItem struct {
	keys []string // of a map
	excl bool
	pred *specPred
	on   *specOn
}

type specOn struct {
	next   *spec
	action string
	keep   bool
}

type specPred struct {
	op     string // is, not, and, or
	input  string
	value  string
	others []*specPred
}

type naive struct {
	in      ctx
	skipped []string
}

func (n *naive) on(o *specOn) string {
	if o == nil {
		return ""
	}
	got := o.action
	if o.next != nil {
		got = n.tree(o.next)
	}
	if o.keep && got != "" && got != "?" {
		n.skipped = append(n.skipped, got)
		return ""
	}
	return got
}

// candidates returns the items that match, the best first.
func (n *naive) candidates(s *spec, v string) (out []*specOn) {
	type ranked struct {
		on   *specOn
		rank int
		excl bool
	}
	var all []ranked
	for _, it := range s.items {
		for _, k := range it.keys {
			switch {
			case s.kind == "exact" && k == v:
				all = append(all, ranked{it.on, 0, false})
			case s.kind == "prefix" && strings.HasPrefix(v, k):
				all = append(all, ranked{it.on, len(k), false})
			case s.kind == "names" && v != "" && (k == v || k == "*"):
				all = append(all, ranked{it.on, map[bool]int{true: 1 << 20, false: -1}[k == v], false})
			case s.kind == "names" && strings.HasPrefix(k, "*.") && strings.HasSuffix(v, k[1:]):
				all = append(all, ranked{it.on, len(k), false})
			case s.kind == "ranges":
				a, err := netip.ParseAddr(v)
				if p := netip.MustParsePrefix(k); err == nil && p.Contains(a) {
					all = append(all, ranked{it.on, p.Bits(), it.excl})
				}
			}
		}
	}
	slices.SortStableFunc(all, func(a, b ranked) int { return b.rank - a.rank })
	for i, r := range all {
		if i == 0 || !r.excl {
			out = append(out, r.on)
		}
	}
	return out
}

func (n *naive) tree(s *spec) string {
	v, ok := n.in[s.input]
	switch {
	case s.kind == "always":
	case s.kind == "list":
		for _, it := range s.items {
			switch n.pred(it.pred) {
			case "?":
				return "?"
			case "yes":
				if got := n.on(it.on); got != "" {
					return got
				}
			}
		}
	case v == "?":
		return "?"
	case ok:
		for _, o := range n.candidates(s, v) {
			if got := n.on(o); got != "" {
				return got
			}
		}
	}
	return n.on(s.none)
}

func (n *naive) pred(p *specPred) string {
	var all []string
	for _, o := range p.others {
		all = append(all, n.pred(o))
	}
	switch p.op {
	case "not":
		return map[string]string{"yes": "no", "no": "yes", "?": "?"}[all[0]]
	case "and":
		for _, a := range all {
			if a != "yes" {
				return a
			}
		}
		return "yes"
	case "or":
		if slices.Contains(all, "yes") {
			return "yes"
		}
		if slices.Contains(all, "?") {
			return "?"
		}
		return "no"
	}
	switch v, ok := n.in[p.input]; {
	case v == "?":
		return "?"
	case ok && v == p.value:
		return "yes"
	}
	return "no"
}

// The keys are few, so that they meet.
var (
	inputs = []string{"a", "b", "c"}
	texts  = []string{"", "x", "xy", "xyz", "y", "10.0.0.1", "10.0.1.1", "10.1.0.1", "11.0.0.1", "fd00::1", "a.b.c", "b.c", "c", "x.b.c"}
	keys   = map[string][]string{
		"exact":  texts,
		"prefix": {"", "x", "xy", "xyz", "xz", "y", "10.", "10.0.", "a.", "a.b"},
		"ranges": {"0.0.0.0/0", "10.0.0.0/8", "10.0.0.0/16", "10.0.0.0/24", "10.0.0.1/32", "::/0", "fd00::/8"},
		"names":  {"a.b.c", "*.b.c", "*.c", "*", "b.c", "x.b.c"},
	}
)

func pick[T any](r *rand.Rand, list []T) T { return list[r.IntN(len(list))] }

func genTree(r *rand.Rand, depth int) *spec {
	s := &spec{kind: pick(r, []string{"list", "exact", "prefix", "ranges", "names", "always"}), input: pick(r, inputs)}
	if r.IntN(2) == 0 {
		s.none = genOn(r, depth)
	}
	free := slices.Clone(keys[s.kind])
	r.Shuffle(len(free), func(i, j int) { free[i], free[j] = free[j], free[i] })
	for range r.IntN(5) {
		it := specItem{on: genOn(r, depth), excl: r.IntN(3) == 0}
		if s.kind == "list" {
			it.pred = genPred(r, 3)
		} else if s.kind != "always" && len(free) > 0 {
			it.keys, free = free[:1], free[1:]
			if s.kind == "ranges" && r.IntN(3) == 0 { // the same range twice is fine
				free = append(free, it.keys[0])
			}
		}
		s.items = append(s.items, it)
	}
	return s
}

func genOn(r *rand.Rand, depth int) *specOn {
	o := &specOn{keep: r.IntN(4) == 0}
	if depth > 0 && r.IntN(2) == 0 {
		o.next = genTree(r, depth-1)
	} else {
		o.action = strconv.Itoa(r.IntN(1000) + 1)
	}
	return o
}

func genPred(r *rand.Rand, depth int) *specPred {
	p := &specPred{op: pick(r, []string{"is", "is", "not", "and", "or"}), input: pick(r, inputs), value: pick(r, texts)}
	if depth == 0 {
		p.op = "is"
	}
	n := map[string]int{"not": 1, "and": 2, "or": 2}[p.op]
	for range n {
		p.others = append(p.others, genPred(r, depth-1))
	}
	return p
}

func build(s *spec) Matcher[ctx, string] {
	by := map[string]*On[ctx, string]{}
	for _, it := range s.items {
		for _, k := range it.keys {
			by[k] = buildOn(it.on)
		}
	}
	none := buildOn(s.none)
	switch s.kind {
	case "list":
		l := &List[ctx, string]{None: none}
		for _, it := range s.items {
			l.Items = append(l.Items, Item[ctx, string]{buildPred(it.pred), buildOn(it.on)})
		}
		return l
	case "exact":
		return &Exact[ctx, string]{Input: input(s.input), By: by, None: none}
	case "prefix":
		return NewPrefix(input(s.input), by, none)
	case "names":
		return names(s.input, none, by)
	case "ranges":
		m := ranges(s.input, none)
		for _, it := range s.items {
			for _, k := range it.keys {
				m.Add(netip.MustParsePrefix(k), it.excl, buildOn(it.on))
			}
		}
		return m
	}
	return &Always[ctx, string]{none}
}

func buildOn(o *specOn) *On[ctx, string] {
	if o == nil {
		return nil
	}
	out := &On[ctx, string]{Action: o.action, Keep: o.keep}
	if o.next != nil {
		out.Next = build(o.next)
	}
	return out
}

func buildPred(p *specPred) Predicate[ctx] {
	var all []Predicate[ctx]
	for _, o := range p.others {
		all = append(all, buildPred(o))
	}
	switch p.op {
	case "not":
		return &Not[ctx]{all[0]}
	case "and":
		return All[ctx](all)
	case "or":
		return Any[ctx](all)
	}
	return is(p.input, p.value)
}

func genContext(r *rand.Rand) ctx {
	c := ctx{}
	for _, in := range inputs {
		switch r.IntN(8) {
		case 0:
		case 1:
			c[in] = "?"
		default:
			c[in] = pick(r, texts)
		}
	}
	return c
}

// TestAgainstNaive compares random trees with an evaluator that does everything the
// slow way.
func TestAgainstNaive(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 5000 {
		s := genTree(r, 3)
		tree := New[ctx, string](build(s))
		for range 4 {
			compare(t, s, tree, genContext(r))
		}
		if t.Failed() {
			return
		}
	}
}

func compare(t *testing.T, s *spec, tree *Tree[ctx, string], in ctx) {
	t.Helper()
	n := &naive{in: in}
	want := n.tree(s)
	var skipped []string
	got, res := tree.FindSkipped(in, func(a string) { skipped = append(skipped, strings.Clone(a)) })
	if res == Unavailable {
		got = "?"
	}
	if got != want || !slices.Equal(skipped, n.skipped) {
		t.Errorf("%v: %q and skipped %v, want %q and %v\n%s", in, got, skipped, want, n.skipped, show(s, ""))
	}
}

func show(s *spec, indent string) string {
	if s == nil {
		return ""
	}
	var sb strings.Builder
	fmt.Fprintf(&sb, "%s%s of %s\n", indent, s.kind, s.input)
	on := func(what string, o *specOn) {
		if o != nil {
			fmt.Fprintf(&sb, "%s %s -> %s keep=%v\n%s", indent, what, o.action, o.keep, show(o.next, indent+"  "))
		}
	}
	for _, it := range s.items {
		on(fmt.Sprintf("%v exclusive=%v", it.keys, it.excl), it.on)
	}
	on("none", s.none)
	return sb.String()
}

// FuzzNames: the keys of maps and the values that they meet are arbitrary bytes.
func FuzzMaps(f *testing.F) {
	f.Add("a.b", "*.b", "x.a.b", uint64(1))
	f.Add("", "*", "\xff", uint64(2))
	f.Fuzz(func(t *testing.T, k1, k2, v string, seed uint64) {
		r := rand.New(rand.NewPCG(seed, 0))
		for _, kind := range []string{"exact", "prefix", "names"} {
			s := &spec{kind: kind, input: "a", items: []specItem{{keys: []string{k1}, on: genOn(r, 0)}}, none: genOn(r, 1)}
			if k1 != k2 {
				s.items = append(s.items, specItem{keys: []string{k2}, on: genOn(r, 0)})
			}
			if kind == "names" && (!goodName(k1) || !goodName(k2) || strings.HasPrefix(v, "*")) {
				continue
			}
			compare(t, s, New[ctx, string](build(s)), ctx{"a": v})
		}
	})
}

// goodName: configuration is refused that has other names.
func goodName(k string) bool {
	return k == "*" || k != "" && !strings.Contains(strings.TrimPrefix(k, "*."), "*") && k != "*."
}

func TestAllocs(t *testing.T) {
	type c = *struct {
		addr netip.Addr
		port int
		name string
	}
	addr := func(x c, s *Scratch) Value { return s.Addr(x.addr) }
	port := func(x c, s *Scratch) Value { return s.Number(x.port) }
	name := func(x c, s *Scratch) Value { return Text(x.name) }
	type on = On[c, int]
	ranges := &Ranges[c, int]{Input: addr}
	ranges.Add(netip.MustParsePrefix("10.0.0.0/8"), false, &on{Next: &Exact[c, int]{Input: port, By: map[string]*on{"8080": {Next: NewNames(name, map[string]*on{
		"*.example.com": {Next: &List[c, int]{Items: []Item[c, int]{{
			All[c]{&Single[c]{name, &String{match.Suffix(".com", false)}}, &Single[c]{port, &String{match.Exact("8080", false)}}, &Single[c]{addr, &Addresses{match.CIDRs{netip.MustParsePrefix("10.0.0.0/8")}}}},
			&on{Action: 7},
		}}}},
	}, nil)}}}})
	tree := New[c, int](ranges)
	x := c(&struct {
		addr netip.Addr
		port int
		name string
	}{netip.MustParseAddr("10.1.2.3"), 8080, "www.example.com"})
	if got, _ := tree.Find(x); got != 7 {
		t.Fatal(got)
	}
	if n := testing.AllocsPerRun(1000, func() { tree.Find(x) }); n != 0 && !race {
		t.Errorf("a match allocates %v times", n)
	}
}
