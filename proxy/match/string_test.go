package match

import (
	"regexp"
	"strings"
	"testing"
)

func TestString(t *testing.T) {
	for _, c := range []struct {
		name     string
		m        String
		yes, not []string
	}{
		{"exact", Exact("aB", false), []string{"aB"}, []string{"", "ab", "aBc", "xaB"}},
		{"exact fold", Exact("aB", true), []string{"aB", "AB", "ab"}, []string{"", "abc", "áB"}},
		{"empty", Exact("", false), []string{""}, []string{"a"}},
		{"prefix", Prefix("aB", false), []string{"aB", "aBc"}, []string{"", "a", "abc", "xaB"}},
		{"prefix fold", Prefix("aB", true), []string{"ABC"}, []string{"a", "xab"}},
		{"suffix", Suffix("aB", false), []string{"aB", "xaB"}, []string{"", "B", "aBc"}},
		{"suffix fold", Suffix("aB", true), []string{"xAB"}, []string{"B", "abc"}},
		{"contains", Contains("aB", false), []string{"aB", "xaBy"}, []string{"", "xaby"}},
		{"contains fold", Contains("aB", true), []string{"xABy", "ab", "aab"}, []string{"", "b", "axb"}},
		{"fold is ASCII only", Exact("k", true), []string{"K"}, []string{"\u212a"}}, // KELVIN SIGN
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, v := range c.yes {
				if !c.m.Match(v) {
					t.Errorf("%q does not match", v)
				}
			}
			for _, v := range c.not {
				if c.m.Match(v) {
					t.Errorf("%q matches", v)
				}
			}
		})
	}
}

// TestRegexpShortcuts: expressions that are answered without the engine give the answer
// of the engine.
func TestRegexpShortcuts(t *testing.T) {
	short := 0
	for _, expr := range []string{
		"", "a", "/a.b", `/a\.b`, ".*", ".+", "a.*", ".*a", ".*a.*", "(a)", "a|b", "(?i)a", "(?i:a).*", "(?s).*", "(?s)a.*", "(?m)^a$", "a.*?", "[a]",
		"^a$", "a*", "/x/[0-9]+", `\Qa.b\E`, ".*\n.*", "a\nb", "(?U)a.*", "a{2}", ".*.*",
	} {
		re, err := CompileRegexp(expr)
		if err != nil {
			t.Fatal(err)
		}
		if re.plain != nil {
			short++
		}
		for _, v := range []string{"", "a", "A", "b", "aa", "a.b", "/a.b", "/axb", "ab", "ba", "a\n", "\na", "bab", "/x/12", "a\nb", "\n", "aXb", "a.b.c"} {
			if got, want := re.Match(v), re.all.MatchString(v); got != want {
				t.Errorf("%q matches %q: %v, want %v", expr, v, got, want)
			}
		}
	}
	if short < 8 {
		t.Errorf("only %d expressions were simple", short)
	}
}

func TestRegexpErrors(t *testing.T) {
	for _, expr := range []string{"(", "a)|(b", "(?!a)", "a{1001}", `\C`} {
		if _, err := CompileRegexp(expr); err == nil || !strings.Contains(err.Error(), "regular expression") {
			t.Errorf("%q: error %v", expr, err)
		}
	}
}

func TestSubstitution(t *testing.T) {
	for _, c := range []struct{ expr, replacement, in, want string }{
		{"b", "c", "abab", "acac"},
		{"^/a/([^/]+)/(.*)$", `/\2/\1`, "/a/1/2", "/2/1"},
		{"(a)|(b)", `<\1\2>`, "ab", "<a><b>"},
		{"a", `[\0\\]`, "xa", `x[a\]`},
		{"x*", "-", "axb", "-a-b-"},
		{"nothing", "c", "a", "a"},
		{"a", "", "aba", "b"},
	} {
		re, err := CompileRegexp(c.expr)
		if err != nil {
			t.Fatal(err)
		}
		s, err := NewSubstitution(re, c.replacement)
		if err != nil {
			t.Fatal(err)
		}
		if got := string(s.Append([]byte("+"), c.in)); got != "+"+c.want {
			t.Errorf("%q by %q in %q: %q, want %q", c.expr, c.replacement, c.in, got, "+"+c.want)
		}
	}
}

// FuzzRegexp: the shortcuts never change an answer, and no expression panics.
func FuzzRegexp(f *testing.F) {
	f.Add("a.*", "ab", `\0`)
	f.Add(".*(?i)x", "aX", `\1\\`)
	f.Add("(?s).*", "a\nb", "")
	f.Fuzz(func(t *testing.T, expr, v, replacement string) {
		re, err := CompileRegexp(expr)
		if err != nil {
			return
		}
		want := regexp.MustCompile(`\A(?:` + expr + `)\z`).MatchString(v)
		if got := re.Match(v); got != want {
			t.Fatalf("%q matches %q: %v, want %v", expr, v, got, want)
		}
		if s, err := NewSubstitution(re, replacement); err == nil {
			s.Append(nil, v)
		}
	})
}

func TestFraction(t *testing.T) {
	for _, c := range []struct {
		f    Fraction
		want int
	}{{Fraction{Numerator: 0, Denominator: 100}, 0}, {Fraction{Numerator: 100, Denominator: 100}, 1000}, {Fraction{Numerator: 25, Denominator: 100}, 250}, {Fraction{Numerator: 200, Denominator: 100}, 1000}} {
		n := 0
		for i := range uint64(1000) {
			if c.f.Match(i) {
				n++
			}
		}
		if n != c.want {
			t.Errorf("%v: %d of 1000, want %d", c.f, n, c.want)
		}
	}
}
