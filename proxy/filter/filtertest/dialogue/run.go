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

	"github.com/mecha-mesh/mecha/proxy/filter"
)

// Flags of the test binary.
var (
	rewriting = flag.Bool("rewrite", false, "write what the proxy did into the dialogues")
	only      = flag.String("case", "", "play only the dialogues whose names contain this")
	atOnce    = flag.Int("at-once", 16, "dialogues under way at once")
	seed      = flag.Uint64("seed", 0, "of the random pieces; 0 is random")
)

// Mecha plays the dialogues of the files that the patterns name against mecha in this
// process, in whole messages and in random pieces. The result must be the same.
func Mecha[T Test[T]](t T, patterns ...string) { MechaAbout(t, Subject{}, patterns...) }

// MechaAbout is Mecha for the dialogues of an HTTP filter.
func MechaAbout[T Test[T]](t T, about Subject, patterns ...string) {
	cases := load(t, about, patterns)
	log := slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn}))
	start := func(_, _ string, config []byte, _ []*site) (running, error) { return startEngine(config, log) }
	t.Run("whole", func(t T) {
		run(t, cases, start, nil, *rewriting, func(c *Case) bool { return false })
	})
	if *rewriting {
		return
	}
	t.Run("pieces", func(t T) {
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
func InMemory[T Test[T]](t T, about Subject, specs []filter.Descriptor, patterns ...string) {
	log := slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn}))
	start := func(_, _ string, config []byte, sites []*site) (running, error) {
		return startMemory(sites, config, log, specs)
	}
	cases := slices.DeleteFunc(load(t, about, patterns), (*Case).needsSockets)
	never := func(*Case) bool { return false }
	t.Run("whole", func(t T) { run(t, cases, start, nil, false, never) })
	t.Run("pieces", func(t T) {
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
func Rewriting() bool { return *rewriting }

// Binary plays the dialogues against a proxy with Envoy's command line. Where a case
// says that it differs from Envoy, it must.
func Binary[T Test[T]](t T, binary string, about Subject, patterns ...string) {
	start := func(dir, admin string, config []byte, _ []*site) (running, error) {
		return startProcess(binary, dir, admin, config)
	}
	run(t, load(t, about, patterns), start, nil, *rewriting, func(c *Case) bool { return c.Differs != "" })
}

// running is a proxy that can be ended.
type running interface {
	proxy
	close()
}

type starter func(dir, admin string, config []byte, sites []*site) (running, error)

func load(t TB, about Subject, patterns []string) []*Case {
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
func run[T Test[T]](t T, cases []*Case, start starter, rnd *rand.Rand, write bool, differs func(*Case) bool) {
	t.Helper()
	picked := slices.DeleteFunc(slices.Clone(cases), func(c *Case) bool {
		return !strings.Contains(c.Name, *only) || rnd != nil && c.Whole != ""
	})
	results := make([]result, len(picked))
	for _, which := range together(picked) {
		if err := playAll(t.TempDir(), picked, which, start, rnd, results); err != nil {
			t.Fatal(err)
		}
	}
	for i, c := range picked {
		if write && results[i].err == nil && !differs(c) {
			c.Steps = results[i].steps
			continue
		}
		t.Run(c.Name, func(t T) { check(t, c, results[i], differs(c)) })
	}
	if write {
		if err := rewrite(cases); err != nil {
			t.Fatal(err)
		}
	}
}

// together says which cases share a proxy.
func together(cases []*Case) (groups [][]int) {
	var shared []int
	for i, c := range cases {
		if c.alone() {
			groups = append(groups, []int{i})
		} else {
			shared = append(shared, i)
		}
	}
	if len(shared) > 0 {
		groups = append(groups, shared)
	}
	return groups
}

// alone reports whether a case needs a proxy for itself.
func (c *Case) alone() bool {
	return slices.ContainsFunc(c.Steps, func(s Step) bool { return s.Op == Admin })
}

// playAll plays some of the cases on a proxy for all of them. dir is theirs alone.
func playAll(dir string, cases []*Case, which []int, start starter, rnd *rand.Rand, results []result) error {
	ip := randomIP()
	certs, err := certificatesFor(cases, which, dir)
	if err != nil {
		return err
	}
	sites, sets := make([]*site, len(which)), make([]*settings, len(which))
	for k, i := range which {
		var err error
		if sites[k], sets[k], err = newSite(cases[i], fmt.Sprintf("%s:%d", ip, 10001+k), dir, certs); err != nil {
			return err
		}
		defer sites[k].close()
	}
	admin := ip + ":10000"
	config, err := bootstrapOf(sites, sets, admin)
	if err != nil {
		return err
	}
	p, err := start(dir, admin, config, sites)
	if err != nil {
		return err
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
	return nil
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
func check(t TB, c *Case, r result, differs bool) {
	problem := verdict(c, r)
	switch {
	case differs && problem == "":
		t.Errorf("%s:%d: this case is said to differ, and does not: remove the mark (%s)", c.File, c.Line, c.Differs)
	case differs:
		t.Logf("differs as expected (%s):\n%s", c.Differs, problem)
	case problem != "":
		t.Error(problem)
	}
}

// verdict says what of a case was not as expected, "" if nothing.
func verdict(c *Case, r result) string {
	var bad []string
	if r.err != nil {
		bad = append(bad, r.err.Error())
	}
	for i, got := range r.steps {
		want := c.Steps[i]
		switch {
		case want.reads() && !slices.Equal(trimmed(want.Lines), trimmed(got.Lines)):
			bad = append(bad, fmt.Sprintf("%s:%d: %s\n--- got\n%s\n--- want\n%s", c.File, want.Line, want.prefix(),
				strings.Join(got.Lines, "\n"), strings.Join(want.Lines, "\n")))
		case (want.Op == Log || want.Op == Stat) && want.Arg != got.Arg:
			bad = append(bad, fmt.Sprintf("%s:%d: got %q, want %q", c.File, want.Line, got.Arg, want.Arg))
		}
	}
	return strings.Join(bad, "\n")
}

func trimmed(lines []string) []string {
	out := slices.Clone(lines)
	for len(out) > 0 && out[len(out)-1] == "" {
		out = out[:len(out)-1]
	}
	return out
}

// rewrite writes the cases into the files that they are from.
func rewrite(cases []*Case) error {
	byFile := map[string][]*Case{}
	for _, c := range cases {
		byFile[c.File] = append(byFile[c.File], c)
	}
	for file, list := range byFile {
		old, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		if err := os.WriteFile(file, []byte(Format(Intro(string(old)), list)), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// Oracle is Binary for the proxy that the environment names in MECHA_ENVOY, which is
// meant to be Envoy. Without one there is nothing to do.
func Oracle[T Test[T]](t T, patterns ...string) { OracleAbout(t, Subject{}, patterns...) }

// OracleAbout is Oracle for the dialogues of an HTTP filter.
func OracleAbout[T Test[T]](t T, about Subject, patterns ...string) {
	binary := os.Getenv("MECHA_ENVOY")
	if binary == "" {
		t.Skip("MECHA_ENVOY names no proxy binary")
	}
	Binary(t, binary, about, patterns...)
}
