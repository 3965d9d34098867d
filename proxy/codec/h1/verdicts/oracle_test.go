//go:build oracle

package verdicts

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
)

var (
	rewrite = flag.Bool("rewrite", false, "write what the proxy did into the corpus")
	lanes   = flag.Int("lanes", 12, "exchanges under way at once")
	only    = flag.String("case", "", "run only the case of this name")
)

const corpus = "../testdata/verdicts"

// TestOracle plays the corpus against the proxy whose binary MECHA_ENVOY names
// (it is started with Envoy's command line) and compares with the recorded
// verdicts. With -rewrite, which is meant for real Envoy, it records them.
func TestOracle(t *testing.T) {
	binary := os.Getenv("MECHA_ENVOY")
	if binary == "" {
		t.Skip("MECHA_ENVOY names no proxy binary")
	}
	cases, err := Load(os.DirFS(corpus))
	if err != nil {
		t.Fatal(err)
	}
	queue := make(chan *Case, len(cases))
	for i := range cases {
		if *only == "" || *only == cases[i].Name {
			queue <- &cases[i]
		}
	}
	close(queue)
	p := startProxy(t, binary, *lanes)
	var (
		mu  sync.Mutex
		got = map[string]Verdict{}
		wg  sync.WaitGroup
	)
	for _, l := range p.lanes {
		wg.Go(func() {
			for c := range queue {
				v, err := l.play(c)
				if err != nil {
					t.Errorf("%s: %v", c.Name, err)
					continue
				}
				mu.Lock()
				got[c.Name] = v
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	if *rewrite {
		if err := rewriteCorpus(got); err != nil {
			t.Fatal(err)
		}
		return
	}
	compare(t, cases, got)
}

func compare(t *testing.T, cases []Case, got map[string]Verdict) {
	for i := range cases {
		c := &cases[i]
		v, ok := got[c.Name]
		if !ok || v.String() == c.Verdict.String() {
			continue
		}
		report := t.Errorf
		if c.Differs != "" {
			report = t.Logf
		}
		report("%s:%d: %s %s\ngot:\n%swant:\n%s", c.File, c.Line, c.Name, c.Differs, v, c.Verdict)
	}
}

func rewriteCorpus(got map[string]Verdict) error {
	files, err := filepath.Glob(corpus + "/*.txt")
	if err != nil {
		return err
	}
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			return err
		}
		if err := os.WriteFile(f, Rewrite(text, got), 0o644); err != nil {
			return fmt.Errorf("the recorded verdicts: %w", err)
		}
	}
	return nil
}
