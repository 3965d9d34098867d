package dialogue

import (
	"errors"
	"log/slog"
	"os"
	"strings"
)

// Verdict is what came of a case.
type Verdict struct {
	Case *Case
	// Problem says what was not as expected, "" if nothing.
	Problem string
}

// Plan says how Play plays dialogues.
type Plan struct {
	About  Subject
	Binary string       // a proxy with Envoy's command line; "": mecha in this process
	Only   string       // cases whose names contain this
	Log    *slog.Logger // of mecha in this process
	// Rewrite writes what the proxy did into the files.
	Rewrite bool
}

// Play plays the dialogues of the files that the patterns name, for programs that are no
// tests. An error means that they could not be played. A case that is to differ from Envoy
// has a problem on Envoy if it does not.
func Play(plan Plan, patterns ...string) ([]Verdict, error) {
	all, err := Load(patterns...)
	if err != nil {
		return nil, err
	}
	var cases []*Case
	for _, c := range all {
		c.Subject = plan.About
		if strings.Contains(c.Name, plan.Only) {
			cases = append(cases, c)
		}
	}
	if len(cases) == 0 {
		return nil, errors.New("no dialogue in " + strings.Join(patterns, " "))
	}
	start := func(dir, admin string, config []byte, _ []*site) (running, error) {
		if plan.Binary != "" {
			return startProcess(plan.Binary, dir, admin, config)
		}
		return startEngine(config, plan.Log)
	}
	results := make([]result, len(cases))
	for _, which := range together(cases) {
		if err := playIn(cases, which, start, results); err != nil {
			return nil, err
		}
	}
	verdicts := make([]Verdict, len(cases))
	for i, c := range cases {
		verdicts[i] = Verdict{c, verdict(c, results[i])}
		differs := plan.Binary != "" && c.Differs != ""
		switch {
		case plan.Rewrite && results[i].err == nil && !differs:
			c.Steps, verdicts[i].Problem = results[i].steps, ""
		case differs && verdicts[i].Problem == "":
			verdicts[i].Problem = "the case is said to differ, and does not"
		case differs:
			verdicts[i].Problem = ""
		}
	}
	if plan.Rewrite {
		return verdicts, rewrite(all)
	}
	return verdicts, nil
}

// playIn is playAll in a folder of its own.
func playIn(cases []*Case, which []int, start starter, results []result) error {
	dir, err := os.MkdirTemp("", "dialogue-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	return playAll(dir, cases, which, start, nil, results)
}
