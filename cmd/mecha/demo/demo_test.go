package demo

import (
	"bytes"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	folders "github.com/mecha-mesh/mecha/xds/control"
)

// TestFolders: what the demo writes is what the control plane takes, at every
// stage of the demo.
func TestFolders(t *testing.T) {
	loopback, err := loopbackPlan()
	if err != nil {
		t.Fatal(err)
	}
	for name, p := range map[string]plan{"pods": podPlan(network), "loopback": loopback} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "config")
			f, err := newFolder(dir, p)
			if err != nil {
				t.Fatal(err)
			}
			check := func(stage string) {
				state, err := folders.NewFolder(dir).Load()
				if err != nil || len(state.Problems)+len(state.Warnings) > 0 {
					t.Errorf("%s: %v, problems %v, warnings %v", stage, err, state.Problems, state.Warnings)
				}
			}
			check("new")
			for _, c := range []struct {
				edit func(*routing)
				want string
			}{
				{func(r *routing) { r.V1, r.V2 = 50, 50 }, "- clusters: [{ name: catalog-v1, weight: 90 }, { name: catalog-v2, weight: 10 }]\n" +
					"+ clusters: [{ name: catalog-v1, weight: 50 }, { name: catalog-v2, weight: 50 }]"},
				{func(r *routing) { r.Retry = true }, "+ retry_policy: { retry_on: 5xx, num_retries: 3 }"},
				{func(r *routing) { r.Timeout = "0.3s" }, "+ timeout: 0.3s"},
				{func(*routing) {}, ""},
			} {
				lines, err := f.edit(c.edit)
				if got := strings.Join(lines, "\n"); err != nil || got != c.want {
					t.Errorf("edit: %v\n%s\nwant\n%s", err, got, c.want)
				}
				check(c.want)
			}
			if err := f.inbound(true); err != nil {
				t.Error(err)
			}
			check("strict")
		})
	}
}

// TestPodPlan: every program has an address of its own, and service names with a
// sidecar behind them have one that nobody has.
func TestPodPlan(t *testing.T) {
	p := podPlan(network)
	owner := map[netip.Addr]string{}
	for name, at := range p.at {
		if other := owner[at.Addr()]; other != "" {
			t.Errorf("%s and %s both have %v", name, other, at)
		}
		owner[at.Addr()] = name
	}
	for name, addr := range p.names {
		virtual := name != "bank.shop" && name != "frontend.shop"
		if (owner[addr] == "") != virtual || !network.Contains(addr) {
			t.Errorf("%s is %v, which belongs to %q", name, addr, owner[addr])
		}
	}
	if env := p.settings(members()[len(members())-1]); len(env) != 0 {
		t.Errorf("in a pod the frontend is told %q", env)
	}
}

// TestGuard removes its directory when the demo is gone.
func TestGuard(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	in, demo := io.Pipe()
	out, guard := io.Pipe()
	done := make(chan error, 1)
	go func() { done <- Guard(in, guard) }()
	b := make([]byte, 1000)
	n, err := out.Read(b)
	dir := strings.TrimSpace(string(b[:n]))
	if err != nil || !filepath.IsAbs(dir) {
		t.Fatalf("%q, %v", dir, err)
	}
	if err := os.WriteFile(filepath.Join(dir, "log"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	demo.Close() //nolint:errcheck // the demo ends
	select {
	case err := <-done:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("the guard does not end")
	}
	if _, err := os.Stat(dir); !os.IsNotExist(err) {
		t.Errorf("%s: %v", dir, err)
	}
}

func TestProgramsMissing(t *testing.T) {
	dir := t.TempDir()
	var o Options
	err := o.Programs(filepath.Join(dir, "mecha"))
	if err == nil || !strings.Contains(err.Error(), "make demo") || !strings.Contains(err.Error(), "mecha-control") {
		t.Errorf("got %v", err)
	}
}

func TestScreen(t *testing.T) {
	var out bytes.Buffer
	s := newScreen(&out)
	s.step(3, "Retries")
	s.did("this is added:\n+ retry: 1")
	s.check(true, "%s requests", number(1234567))
	s.check(false, "none failed")
	const want = "\n3 Retries\n  done      this is added:\n            + retry: 1\n  ✓ 1,234,567 requests\n  ✗ none failed\n"
	if out.String() != want || len(s.failed) != 1 || s.passed != 1 {
		t.Errorf("got %q", out.String())
	}
	for in, want := range map[int]string{0: "0", 999: "999", 1000: "1,000", -1000: "-1,000", -100: "-100"} {
		if got := number(in); got != want {
			t.Errorf("number(%d) = %s", in, got)
		}
	}
	if got := wrap("a bb ccc\ndd e  f", 4); got != "a bb\nccc\ndd e\nf" {
		t.Errorf("wrap: %q", got)
	}
}

// TestNear: a share is judged with as much tolerance as its number of requests needs.
func TestNear(t *testing.T) {
	for _, c := range []struct {
		s    share
		want float64
		ok   bool
	}{
		{share{900, 100}, 0.1, true},
		{share{9000, 1000}, 0.1, true},
		{share{8600, 1400}, 0.1, false},
		{share{9500, 500}, 0.1, false},
		{share{50, 40}, 0.5, false}, // too few to tell
		{share{90, 70}, 0.5, true},
		{share{}, 0, false},
	} {
		if near(c.s, c.want) != c.ok {
			t.Errorf("%+v as %.2f", c.s, c.want)
		}
	}
}
