package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"text/tabwriter"
)

// compareFiles prints two results side by side: BASE, and NEW or the newest file
// beside BASE. Only ratios are compared: absolute times of two runs say little.
func compareFiles(w io.Writer, args []string) error {
	if len(args) < 1 || len(args) > 2 || args[0] == "" {
		return errors.New("want: cmp BASE.json [NEW.json]")
	}
	base, err := readReport(args[0])
	if err != nil {
		return err
	}
	newer := ""
	if len(args) == 2 {
		newer = args[1]
	} else if newer, err = newest(filepath.Dir(args[0]), args[0]); err != nil {
		return err
	}
	now, err := readReport(newer)
	if err != nil {
		return err
	}
	fmt.Fprintf(w, "base %s (%s)\nnew  %s (%s)\n", args[0], base.Commit, newer, now.Commit)
	if base.Machine != now.Machine {
		fmt.Fprintf(w, "careful, two machines: %+v and %+v\n", base.Machine, now.Machine)
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "\nrow\tbeside\tbase\tnew\tchange")
	for i := range now.Rows {
		for _, p := range now.Rows[i].Pairs {
			old := base.pair(now.Rows[i].Name, p.Peer)
			if old == nil {
				fmt.Fprintf(t, "%s\t%s\t-\t%.2f\t\n", now.Rows[i].Name, p.Peer, p.Ratio.Median)
				continue
			}
			fmt.Fprintf(t, "%s\t%s\t%.2f\t%.2f\t%s\n", now.Rows[i].Name, p.Peer, old.Ratio.Median, p.Ratio.Median,
				change(old.Ratio, p.Ratio, now.Rows[i].AtLeast))
		}
	}
	for _, m := range now.Memory {
		for _, old := range base.Memory {
			if old.Name == m.Name {
				fmt.Fprintf(t, "RSS at rest\t%s\t%.1f MB\t%.1f MB\t\n", m.Name, old.RestMB, m.RestMB)
				fmt.Fprintf(t, "RSS a connection\t%s\t%.1f KB\t%.1f KB\t\n", m.Name, old.PerConnKB, m.PerConnKB)
			}
		}
	}
	return t.Flush()
}

// change says by how much the ratio moved, and calls it noise while the samples
// of both runs overlap.
func change(base, now spread, atLeast bool) string {
	percent := 100 * (now.Median/base.Median - 1)
	if now.Low <= base.High && base.Low <= now.High {
		return fmt.Sprintf("%+.0f %% (within the spread)", percent)
	}
	if (percent > 0) == atLeast {
		return fmt.Sprintf("%+.0f %% better", percent)
	}
	return fmt.Sprintf("%+.0f %% WORSE", percent)
}

func (r *report) pair(row, peer string) *pairResult {
	for i := range r.Rows {
		if r.Rows[i].Name == row {
			return r.Rows[i].pairWith(peer)
		}
	}
	return nil
}

func readReport(file string) (*report, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	r := &report{}
	if err := json.Unmarshal(text, r); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return r, nil
}

// newest is the last result in dir that is not base. Names begin with the time.
func newest(dir, base string) (string, error) {
	files, err := filepath.Glob(filepath.Join(dir, "*.json"))
	if err != nil {
		return "", err
	}
	slices.Sort(files)
	for _, f := range slices.Backward(files) {
		if f != base && filepath.Clean(f) != filepath.Clean(base) {
			return f, nil
		}
	}
	return "", fmt.Errorf("%s holds no other result: run make bench first", dir)
}
