package mecha_test

import (
	"bytes"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// runner plays go test: what it prints first, with FAIL at the end of the packages, and
// what the packages do that are run again alone.
const runner = `
cd "$DIR"
case "$*" in
*-timeout*-p\ 1*) echo "alone $*" >>again; cat second; exit "$(cat code2)";;
esac
cat first
exit "$(cat code1)"
`

// TestLane: what passes alone is listed, and nothing else that fails passes.
func TestLane(t *testing.T) {
	const one = "--- FAIL: TestX (0.00s)\n    x_test.go:1: first\nFAIL\nFAIL\tm/a\t0.1s\nok  \tm/b\t0.2s\nFAIL\n"
	const hangs = "panic: test timed out after 5m0s\n\trunning tests:\n\t\tTestX (5m0s)\n\ngoroutine 1 [running]:\nFAIL\tm/a\t300.1s\nFAIL\n"
	for _, c := range []struct {
		name, first, second string
		again               bool // it fails again
		code                int
		says                string
	}{
		{name: "passes", first: "ok  \tm/a\t0.1s\n"},
		{name: "passes alone", first: one, second: "ok  \tm/a\t0.1s\n", says: "FLAKY"},
		{name: "fails again", first: one, second: "FAIL\tm/a\t0.1s\n", again: true, code: 1, says: "m/a fails alone, too"},
		{name: "races alone", first: one, second: "WARNING: DATA RACE\n", code: 1, says: "m/a fails alone, too"},
		{name: "data race", first: "WARNING: DATA RACE\n" + one, code: 1, says: "a data race"},
		{name: "panic", first: "panic: x\n" + one, code: 1, says: "a panic"},
		{name: "hangs", first: hangs, second: "ok  \tm/a\t0.1s\n", says: "FLAKY"},
		{name: "hangs again", first: hangs, second: hangs, again: true, code: 1, says: "m/a fails alone, too"},
		{name: "hangs beside a panic", first: "panic: x\n" + hangs, code: 1, says: "a panic"},
		{name: "is killed", first: "signal: killed\n" + one, code: 1, says: "a panic"},
		{name: "build", first: one + "FAIL\tm/c [build failed]\n", code: 1, says: "cannot be built"},
		{name: "many", first: one + "FAIL\tm/c\t1s\nFAIL\tm/d\t1s\nFAIL\tm/e\t1s\n", code: 1, says: "4 packages"},
		{name: "no reason", first: "FAIL\n", code: 1, says: "no package says why"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			for name, text := range map[string]string{
				"runner": runner, "first": c.first, "second": c.second,
				"code1": digit(c.first != "" && strings.Contains(c.first, "FAIL")), "code2": digit(c.again),
			} {
				if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			list := filepath.Join(dir, "list")
			cmd := exec.Command("sh", ".ci/lane", "x", "sh "+filepath.Join(dir, "runner"), "./...")
			cmd.Env = append(os.Environ(), "CI=1", "DIR="+dir, "FLAKY="+list)
			out, _ := cmd.CombinedOutput() // the code says it
			if got := cmd.ProcessState.ExitCode(); got != c.code || !strings.Contains(string(out), c.says) {
				t.Errorf("code %d, want %d; want %q in\n%s", got, c.code, c.says, out)
			}
			listed, _ := os.ReadFile(list) // missing: empty
			if flaky := c.says == "FLAKY"; flaky != strings.Contains(string(listed), "FAIL\tm/a") {
				t.Errorf("listed %q", listed)
			}
			if !strings.HasPrefix(string(out), c.first) {
				t.Errorf("the first failure is not shown:\n%s", out)
			}
		})
	}
}

// TestOracleLane: `make oracle` runs tests by their names.
func TestOracleLane(t *testing.T) {
	names := regexp.MustCompile(`(?m)^func (Test\w+)`)
	found := 0
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		text, err := os.ReadFile(path)
		if !bytes.HasPrefix(text, []byte("//go:build oracle")) {
			return err
		}
		for _, name := range names.FindAllSubmatch(text, -1) {
			if found++; !strings.Contains(string(name[1]), "Oracle") {
				t.Errorf("%s: %s: name it TestOracle...", path, name[1])
			}
		}
		return err
	})
	if err != nil || found == 0 {
		t.Errorf("%d tests, %v", found, err)
	}
}

func digit(one bool) string {
	if one {
		return "1"
	}
	return "0"
}
