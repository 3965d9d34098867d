package bootstrap

import (
	"bytes"
	"errors"
	"flag"
	"os"
	"strings"
	"testing"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
)

var rewrite = flag.Bool("rewrite", false, "write what the loader says into testdata/refused.txt")

// refusal is one case of testdata/refused.txt:
//
//	=== the case's name, .yaml or .json [allow]
//	the configuration
//	--- expected
//	every finding
type refusal struct{ title, input, want string }

func readRefusals(t testing.TB) []refusal {
	t.Helper()
	data, err := os.ReadFile("testdata/refused.txt")
	if err != nil {
		t.Fatal(err)
	}
	var list []refusal
	for chunk := range strings.SplitSeq(string(data), "=== ") {
		title, rest, ok := strings.Cut(chunk, "\n")
		if !ok {
			continue
		}
		input, want, _ := strings.Cut(rest, "--- expected\n")
		list = append(list, refusal{title: title, input: input, want: want})
	}
	return list
}

// source is the case's configuration under a name of its kind.
func (r refusal) source() Source {
	name := "f.yaml"
	if strings.Contains(r.title, ".json") {
		name = "f.json"
	}
	return Source{Name: name, Data: []byte(r.input)}
}

// TestRefused holds the exact text an operator sees for each kind of mistake.
func TestRefused(t *testing.T) {
	list := readRefusals(t)
	if len(list) < 60 {
		t.Fatalf("testdata/refused.txt holds %d cases", len(list))
	}
	var out bytes.Buffer
	for _, c := range list {
		got := "accepted\n"
		o := Options{AllowUnknownFields: strings.Contains(c.title, "[allow]")}
		if _, err := Decode(c.source(), new(bootstrapv3.Bootstrap), o); err != nil {
			var refused *Error
			if !errors.As(err, &refused) {
				t.Errorf("%s: error of type %T", c.title, err)
				continue
			}
			got = ""
			for _, f := range refused.Findings {
				got += f.String() + "\n"
			}
		}
		out.WriteString("=== " + c.title + "\n" + c.input + "--- expected\n" + got)
		if got != c.want && !*rewrite {
			t.Errorf("%s:\n got %s want %s", c.title, got, c.want)
		}
	}
	if *rewrite {
		if err := os.WriteFile("testdata/refused.txt", out.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}
