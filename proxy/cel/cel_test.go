package cel

import (
	"testing"

	"github.com/mecha-mesh/mecha/proxy/attributes"
	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/header"
)

func subject() attributes.Source {
	s := &filter.Stream{}
	s.Request.AddID(header.Method, "GET")
	s.Request.AddID(header.Path, "/a?b=c")
	s.Request.Add("x-a", "1")
	s.Request.Add("x-a", "2")
	s.State.Set("k", "v")
	s.Metadata.Set("ns", "list", []any{"a", true})
	return attributes.Source{Stream: s}
}

// TestMatch: what is true, and that nothing else matches.
func TestMatch(t *testing.T) {
	for text, want := range map[string]bool{
		"request.path == '/a?b=c'":                           true,
		"request.headers['x-a'] == '1,2'":                    true,
		"request.headers.size() == 3":                        true,
		"request.headers.exists(k, k == 'x-a')":              true,
		"metadata.filter_metadata.ns.list[1]":                true,
		"string(filter_state['k']) == 'v'":                   true,
		"type(request) == map":                               true,
		"request.headers == request.headers":                 true,
		"request.method":                                     false, // no bool
		"request.nonsense == ''":                             false,
		"1/0 == 1":                                           false,
		"request[1] == 2":                                    false,
		"string(request) == ''":                              false,
		"connection.tls_version == ''":                       false,
		"filter_state.size() == 0":                           true,
		"[1,2,3].all(a, [1,2,3].all(b, a * b < 10))":         true,
		"has(request.headers.missing) || request.path != ''": true,
	} {
		p, err := Text(text)
		if err != nil {
			t.Errorf("%s: %v", text, err)
		} else if got := p.Match(subject()); got != want {
			t.Errorf("%s is %v", text, got)
		}
	}
}

// TestText: expressions may also be asked for a text.
func TestText(t *testing.T) {
	for text, want := range map[string]string{"request.method": "GET", "1 + 1": "2", "filter_state['k']": "v", "request.nonsense": "", "request": ""} {
		p, err := Text(text)
		if err != nil {
			t.Fatal(err)
		}
		if got, ok := p.Text(subject()); got != want || ok != (want != "") {
			t.Errorf("%s: %q, %v", text, got, ok)
		}
	}
}

// TestCostIsBounded: an expression that would take for ever is given up.
func TestCostIsBounded(t *testing.T) {
	const ten = "[0,1,2,3,4,5,6,7,8,9]"
	text := "true"
	for _, v := range []string{"a", "b", "c", "d", "e", "f", "g", "h", "i"} {
		text = ten + ".all(" + v + ", " + text + ")"
	}
	p, err := Text(text)
	if err != nil {
		t.Fatal(err)
	}
	if p.Match(subject()) {
		t.Error("a billion steps were taken")
	}
}

// FuzzText: no text makes the compiler or an evaluation panic.
func FuzzText(f *testing.F) {
	f.Add("request.headers['a'] in [metadata, filter_state, 1] ? b'' : timestamp(0)")
	f.Fuzz(func(t *testing.T, text string) {
		if p, err := Text(text); err == nil {
			p.Match(subject())
			p.Text(subject())
		}
	})
}
