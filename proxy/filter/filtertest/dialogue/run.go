package dialogue

import (
	"flag"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/mecha-mesh/mecha/proxy/filter"
)

// Flags of the test binary.
var (
	rewrite = flag.Bool("rewrite", false, "write what the proxy did into the dialogues")
	only    = flag.String("case", "", "play only the dialogues whose names contain this")
	atOnce  = flag.Int("at-once", 16, "dialogues under way at once")
	seed    = flag.Uint64("seed", 0, "of the random pieces; 0 is random")
)

// Mecha plays the dialogues of the files that the patterns name against mecha in this
// process, in whole messages and in random pieces. The result must be the same.
func Mecha(t *testing.T, patterns ...string) { MechaAbout(t, Subject{}, patterns...) }

// MechaAbout is Mecha for the dialogues of an HTTP filter.
func MechaAbout(t *testing.T, about Subject, patterns ...string) {
	cases := load(t, about, patterns)
	log := slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn}))
	start := func(_, _ string, config []byte, _ []*site) (running, error) { return startEngine(config, log) }
	t.Run("whole", func(t *testing.T) {
		run(t, cases, start, nil, *rewrite, func(c *Case) bool { return false })
	})
	if *rewrite {
		return
	}
	t.Run("pieces", func(t *testing.T) {
		s := *seed
		if s == 0 {
			s = rand.Uint64()
		}
		t.Logf("-seed %d", s)
		run(t, cases, start, rand.New(rand.NewPCG(s, 0)), false, func(c *Case) bool { return false })
	})
}

// InMemory plays the dialogues of an HTTP filter against the HTTP engine alone, with a
// stand-in for the router, in whole messages and in random pieces.
func InMemory(t *testing.T, about Subject, specs []filter.Descriptor, patterns ...string) {
	log := slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn}))
	start := func(_, _ string, config []byte, sites []*site) (running, error) {
		return startMemory(sites, config, log, specs)
	}
	cases := slices.DeleteFunc(load(t, about, patterns), (*Case).needsSockets)
	never := func(*Case) bool { return false }
	t.Run("whole", func(t *testing.T) { run(t, cases, start, nil, false, never) })
	t.Run("pieces", func(t *testing.T) {
		rnd := rand.New(rand.NewPCG(rand.Uint64(), 0))
		run(t, cases, start, rnd, false, never)
	})
}

// needsSockets reports whether a case is about what the engine alone does not have:
// listeners, clusters and their failures, hosts of HTTP/2.
func (c *Case) needsSockets() bool {
	if c.secure() || strings.Contains(c.Config, "$closed") || strings.Contains(c.Config, "$empty") || strings.Contains(c.Config, "$service") {
		return true
	}
	return slices.ContainsFunc(c.Steps, func(s Step) bool {
		return s.Op == Admin || s.Op == Act || s.HTTP2 && !client(s.Who) || s.Op == Stat && strings.HasPrefix(s.Arg, "cluster.")
	})
}

// Rewriting reports whether the test was run with -rewrite.
func Rewriting() bool { return *rewrite }

// Binary plays the dialogues against a proxy with Envoy's command line. Where a case
// says that it differs from Envoy, it must.
func Binary(t *testing.T, binary string, about Subject, patterns ...string) {
	start := func(dir, admin string, config []byte, _ []*site) (running, error) {
		return startProcess(binary, dir, admin, config)
	}
	run(t, load(t, about, patterns), start, nil, *rewrite, func(c *Case) bool { return c.Differs != "" })
}

// running is a proxy that can be ended.
type running interface {
	proxy
	close()
}

type starter func(dir, admin string, config []byte, sites []*site) (running, error)

func load(t *testing.T, about Subject, patterns []string) []*Case {
	t.Helper()
	cases, err := Load(patterns...)
	if err != nil {
		t.Fatal(err)
	}
	if len(cases) == 0 {
		t.Fatalf("no dialogue in %s", strings.Join(patterns, " "))
	}
	for _, c := range cases {
		c.Subject = about
	}
	return cases
}

// result is what playing a case gave.
type result struct {
	steps []Step
	err   error
}

// run plays all cases, many at once since most of their time is waiting, and then
// reports each as a subtest.
func run(t *testing.T, cases []*Case, start starter, rnd *rand.Rand, write bool, differs func(*Case) bool) {
	picked := slices.DeleteFunc(slices.Clone(cases), func(c *Case) bool {
		return !strings.Contains(c.Name, *only) || rnd != nil && c.Whole != ""
	})
	results := make([]result, len(picked))
	var shared []int
	for i, c := range picked {
		if !c.alone() {
			shared = append(shared, i)
			continue
		}
		playAll(t, picked, []int{i}, start, rnd, results)
	}
	if len(shared) > 0 {
		playAll(t, picked, shared, start, rnd, results)
	}
	for i, c := range picked {
		if write && results[i].err == nil && !differs(c) {
			c.Steps = results[i].steps
			continue
		}
		t.Run(c.Name, func(t *testing.T) { check(t, c, results[i], differs(c)) })
	}
	if write {
		rewriteFiles(t, cases)
	}
}

// alone reports whether a case needs a proxy for itself.
func (c *Case) alone() bool {
	return slices.ContainsFunc(c.Steps, func(s Step) bool { return s.Op == Admin })
}

func playAll(t *testing.T, cases []*Case, which []int, start starter, rnd *rand.Rand, results []result) {
	t.Helper()
	dir, ip := t.TempDir(), randomIP()
	certs, err := certificatesFor(cases, which, dir)
	if err != nil {
		t.Fatal(err)
	}
	sites, sets := make([]*site, len(which)), make([]*settings, len(which))
	for k, i := range which {
		var err error
		if sites[k], sets[k], err = newSite(cases[i], fmt.Sprintf("%s:%d", ip, 10001+k), dir, certs); err != nil {
			t.Fatal(err)
		}
		defer sites[k].close()
	}
	admin := ip + ":10000"
	config, err := bootstrapOf(sites, sets, admin)
	if err != nil {
		t.Fatal(err)
	}
	p, err := start(dir, admin, config, sites)
	if err != nil {
		t.Fatal(err)
	}
	defer p.close()
	var wg sync.WaitGroup
	slots := make(chan struct{}, *atOnce)
	for k, i := range which {
		var own *rand.Rand
		if rnd != nil {
			own = rand.New(rand.NewPCG(rnd.Uint64(), 0))
		}
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			results[i].steps, results[i].err = play(sites[k], p, own)
		})
	}
	wg.Wait()
}

// certificatesFor issues certificates if one of the cases needs any.
func certificatesFor(cases []*Case, which []int, dir string) (*pki, error) {
	if !slices.ContainsFunc(which, func(i int) bool { return cases[i].secure() }) {
		return nil, nil
	}
	return newPKI(dir)
}

// secure reports whether a case is about TLS.
func (c *Case) secure() bool { return strings.Contains(c.Config, "$certs") }

// randomIP is a loopback address of this run alone, so that its ports are free.
func randomIP() string {
	return net.IPv4(127, byte(1+rand.IntN(250)), byte(rand.IntN(256)), byte(1+rand.IntN(254))).String()
}

// check compares what was seen with what is expected.
func check(t *testing.T, c *Case, r result, differs bool) {
	if r.err != nil {
		if differs {
			t.Logf("differs as expected (%s): %v", c.Differs, r.err)
			return
		}
		t.Error(r.err)
	}
	var bad []string
	if r.steps == nil {
		return
	}
	for i, want := range c.Steps {
		got := r.steps[i]
		switch {
		case want.reads() && !slices.Equal(trimmed(want.Lines), trimmed(got.Lines)):
			bad = append(bad, fmt.Sprintf("%s:%d: %s\n--- got\n%s\n--- want\n%s", c.File, want.Line, want.prefix(),
				strings.Join(got.Lines, "\n"), strings.Join(want.Lines, "\n")))
		case (want.Op == Log || want.Op == Stat) && want.Arg != got.Arg:
			bad = append(bad, fmt.Sprintf("%s:%d: got %q, want %q", c.File, want.Line, got.Arg, want.Arg))
		}
	}
	switch {
	case differs && len(bad) == 0:
		t.Errorf("%s:%d: this case is said to differ, and does not: remove the mark (%s)", c.File, c.Line, c.Differs)
	case differs:
		t.Logf("differs as expected (%s):\n%s", c.Differs, strings.Join(bad, "\n"))
	case len(bad) > 0:
		t.Error(strings.Join(bad, "\n"))
	}
}

func trimmed(lines []string) []string {
	out := slices.Clone(lines)
	for len(out) > 0 && out[len(out)-1] == "" {
		out = out[:len(out)-1]
	}
	return out
}

func rewriteFiles(t *testing.T, cases []*Case) {
	byFile := map[string][]*Case{}
	for _, c := range cases {
		byFile[c.File] = append(byFile[c.File], c)
	}
	for file, list := range byFile {
		old, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(Format(Intro(string(old)), list)), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// Oracle is Binary for the proxy that the environment names in MECHA_ENVOY, which is
// meant to be Envoy. Without one there is nothing to do.
func Oracle(t *testing.T, patterns ...string) { OracleAbout(t, Subject{}, patterns...) }

// OracleAbout is Oracle for the dialogues of an HTTP filter.
func OracleAbout(t *testing.T, about Subject, patterns ...string) {
	binary := os.Getenv("MECHA_ENVOY")
	if binary == "" {
		t.Skip("MECHA_ENVOY names no proxy binary")
	}
	Binary(t, binary, about, patterns...)
}
