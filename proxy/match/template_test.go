package match

import (
	"math/rand/v2"
	"regexp"
	"strings"
	"testing"
)

func TestTemplate(t *testing.T) {
	for _, c := range []struct{ template, path, want string }{
		{"/", "/", "yes"},
		{"/", "/a", ""},
		{"/a/*", "/a/b", "yes"},
		{"/a/*", "/a/", ""},
		{"/a/*", "/a/b/", ""},
		{"/a/*/", "/a/b/", "yes"},
		{"/a/*", "/a/b=*c", "yes"},
		{"/a/*", "/a/b[", ""},
		{"/{a}b/c", "/xbb/c", "xb"},
		{"/{a}b/c", "/b/c", ""},
		{"/{a=**}b/c", "/x/b/c", "x/"},
		{"/a/*.png", "/a/b.png", "yes"},
		{"/a/*.png", "/a/.png", ""},
		{"/a/*.png", "/a/b.png.png", "yes"},
		{"/a/*.png", "/a/b.png/", ""},
		{"/**", "/", "yes"},
		{"/**", "/a/b/c", "yes"},
		{"/**.png", "/a/b.png", "yes"},
		{"/a/**/z", "/a/b/c/z", "yes"},
		{"/a/**/z", "/a/z", ""},
		{"/a/**/z", "/a//z", "yes"},
		{"/a/**/z", "/a/b/zz", ""},
		{"/{x}/{y}", "/a/b", "a b"},
		{"/{x}/{y}.png", "/a/b.png", "a b"},
		{"/{x=a/*}/{y=**}", "/a/b/c/d", "a/b c/d"},
		{"/{x=**}/b", "/a/c/b", "a/c"},
		{"/{x=**}", "/", " "},
		{"/a/{x=b}/c", "/a/b/c", "b"},
	} {
		tpl, err := ParseTemplate(c.template)
		if err != nil {
			t.Errorf("%s: %v", c.template, err)
			continue
		}
		var at Captures
		got := ""
		if tpl.Find(c.path, &at) {
			got = "yes"
			var values []string
			for i := range tpl.vars {
				values = append(values, c.path[at[i][0]:at[i][1]])
			}
			if len(values) > 0 {
				got = strings.Join(values, " ")
			}
		}
		if got != strings.TrimSpace(c.want) && got != c.want {
			t.Errorf("%s of %s: %q, want %q", c.template, c.path, got, c.want)
		}
	}
}

func TestTemplateErrors(t *testing.T) {
	for template, want := range map[string]string{
		"a":                        "does not begin with a slash",
		"/a//b":                    `"" is not a literal`,
		"/a b":                     "is not a literal",
		"/{":                       "lacks its closing bracket",
		"/{1}":                     `"1" is not the name of a variable`,
		"/{a}/{a}":                 "is there twice",
		"/{a}/{b}/{c}/{d}/{e}/{f}": "more than 5 variables",
		"/{abcdefghijklmnopq}":     "longer than 16 bytes",
		"/{a=}":                    "has an empty pattern",
		"/{a=*/}":                  "is not expected",
		"/{a={b}":                  "contains another one",
		"/**/*":                    "nothing but text may follow **",
		"/**/{a}":                  "nothing but text may follow **",
		"/*b/c":                    "only the last segment may go on after an operator",
		"/a*":                      "is not a literal",
		"/*a{b}":                   "is not a literal",
	} {
		if _, err := ParseTemplate(template); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", template, err, want)
		}
	}
}

func TestTemplateRewrite(t *testing.T) {
	tpl, err := ParseTemplate("/{lang}/{rest=**}.html")
	if err != nil {
		t.Fatal(err)
	}
	r, err := NewTemplateRewrite(tpl, "/x/{rest}-{lang}")
	if err != nil {
		t.Fatal(err)
	}
	if got, ok := r.Append(nil, "/de/a/b.html"); !ok || string(got) != "/x/a/b-de" {
		t.Errorf("got %q, %v", got, ok)
	}
	if _, ok := r.Append(nil, "/de"); ok {
		t.Error("rewrote what does not match")
	}
	for path, want := range map[string]string{
		"x": "begin with a slash", "/a//b": "two in a row", "/{rest": "closing bracket", "/{no}": "is no variable", "/ ": "not a literal",
	} {
		if _, err := NewTemplateRewrite(tpl, path); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", path, err, want)
		}
	}
}

// TestTemplateIsAnExpression: a template matches what the expression does that the
// documentation describes it by, with the same captures.
func TestTemplateIsAnExpression(t *testing.T) {
	const char = `[a-zA-Z0-9\-._~%!$&'()*+,;=:@]`
	r := rand.New(rand.NewPCG(5, 6))
	segment := func(inVariable bool) (template, expr string) {
		n := r.IntN(4)
		switch {
		case n == 0:
			return "*", char + "+"
		case n == 1 && r.IntN(3) == 0:
			return "**", `[a-zA-Z0-9\-._~%!$&'()*+,;=:@/]*`
		case n == 2 && !inVariable:
			return "{v}", "(" + char + "+)"
		}
		return [...]string{"a", "b"}[n%2], [...]string{"a", "b"}[n%2]
	}
	for range 3000 {
		template, expr := "", ""
		for range 1 + r.IntN(4) {
			s, e := segment(false)
			if strings.Contains(template, "{v") && s == "{v}" {
				s, e = "*", char+"+"
			}
			template, expr = template+"/"+s, expr+"/"+e
		}
		if last := template[len(template)-1]; (last == '*' || last == '}') && r.IntN(2) == 0 {
			template, expr = template+".a", expr+`\.a`
		}
		tpl, err := ParseTemplate(template)
		if err != nil {
			continue // operators after **
		}
		re := regexp.MustCompile(`\A` + expr + `\z`)
		for range 50 {
			path := ""
			for range 1 + r.IntN(6) {
				path += [...]string{"/", "/a", "/b", "a", ".a", "=", "/ab"}[r.IntN(7)]
			}
			var at Captures
			got, want := tpl.Find(path, &at), re.FindStringSubmatchIndex(path)
			if got != (want != nil) {
				t.Fatalf("%s of %s: %v, want %v", template, path, got, want)
			}
			if got && len(tpl.vars) > 0 && (at[0][0] != want[2] || at[0][1] != want[3]) {
				t.Fatalf("%s of %s: captured %v, want %v", template, path, at[0], want[2:])
			}
			if text := tpl.leading(); got && !strings.HasPrefix(path, text) {
				t.Fatalf("%s of %s: does not begin with %q", template, path, text)
			}
		}
	}
}

func FuzzTemplate(f *testing.F) {
	f.Add("/{a=b/*}/**.c", "/b/d/e.c")
	f.Fuzz(func(t *testing.T, template, path string) {
		if tpl, err := ParseTemplate(template); err == nil {
			var at Captures
			tpl.Find(path, &at)
		}
	})
}

// TestLiteral: every path that a matcher matches is what Literal says.
func TestLiteral(t *testing.T) {
	for _, c := range []struct {
		expr, text string
		kind       LiteralKind
	}{
		{"/a", "/a", LiteralExact},
		{"/a.*", "/a", LiteralPrefix},
		{"^/a(b|c)", "/a", LiteralPrefix},
		{"/ab*", "/a", LiteralPrefix},
		{"/ab?", "/a", LiteralPrefix},
		{"(/a/b)/.+", "/a/b", LiteralPrefix},
		{"/a/x|/a/y", "/a/", LiteralPrefix},
		{"/a|b", "", LiteralNone},
		{"(?i)/a.+", "", LiteralNone},
		{".*", "", LiteralNone},
		{"", "", LiteralNone}, // never the path of a request
		{"(/a)*", "", LiteralNone},
	} {
		re, err := CompileRegexp(c.expr)
		if err != nil {
			t.Fatal(err)
		}
		p := PathRegexp(re)
		if text, kind, _ := p.Literal(); text != c.text || kind != c.kind {
			t.Errorf("%s: %q, %d", c.expr, text, kind)
		}
	}
}
