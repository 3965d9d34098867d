package fromproto_test

import (
	"flag"
	"os"
	"strings"
	"testing"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"

	"github.com/mecha-mesh/mecha/filters/headermutation"
	"github.com/mecha-mesh/mecha/filters/router"
	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/filter/filtertest/message"
	"github.com/mecha-mesh/mecha/proxy/filter/fromproto"
)

var rewrite = flag.Bool("rewrite", false, "write the messages into testdata/routes.txt")

// verdict is one case of testdata/routes.txt.
type verdict struct {
	name, verdict, json, message string
}

func (v *verdict) accepted() bool { return v.verdict == "accepted" }
func (v *verdict) stricter() bool { return strings.HasPrefix(v.verdict, "stricter: ") }

func readVerdicts(t *testing.T) (head string, all []*verdict) {
	t.Helper()
	text, err := os.ReadFile("testdata/routes.txt")
	if err != nil {
		t.Fatal(err)
	}
	parts := strings.Split(string(text), "\n=== ")
	for _, p := range parts[1:] {
		lines := strings.Split(strings.TrimRight(p, "\n"), "\n")
		name, what, ok := strings.Cut(lines[0], ": ")
		if !ok || len(lines) < 2 {
			t.Fatalf("not a case: %q", p)
		}
		all = append(all, &verdict{name, what, lines[1], strings.Join(lines[2:], "\n")})
	}
	return parts[0], all
}

func newParser(t testing.TB) *filter.Parser {
	t.Helper()
	r, err := filter.NewRegistry(headermutation.Spec, router.Spec)
	if err != nil {
		t.Fatal(err)
	}
	return &filter.Parser{Registry: r, Routes: fromproto.InlineRoutes}
}

func fromJSON(t testing.TB, text string) []byte {
	t.Helper()
	return message.Raw(t, &routev3.RouteConfiguration{}, text)
}

// TestRouteVerdicts: what is refused is refused with a message that says where.
func TestRouteVerdicts(t *testing.T) {
	head, all := readVerdicts(t)
	for _, v := range all {
		t.Run(v.name, func(t *testing.T) {
			table, err := fromproto.Routes(fromJSON(t, v.json), newParser(t))
			switch {
			case v.accepted() && err != nil:
				t.Errorf("refused: %v", err)
			case v.accepted():
			case err == nil:
				t.Errorf("accepted: %v", table)
			case *rewrite:
				v.message = err.Error()
			case err.Error() != v.message:
				t.Errorf("got  %v\nwant %s", err, v.message)
			}
		})
	}
	if !*rewrite || t.Failed() {
		return
	}
	out := head
	for _, v := range all {
		out += "\n=== " + v.name + ": " + v.verdict + "\n" + v.json + "\n"
		if v.message != "" {
			out += v.message + "\n"
		}
	}
	if err := os.WriteFile("testdata/routes.txt", []byte(out), 0o644); err != nil {
		t.Fatal(err)
	}
}
