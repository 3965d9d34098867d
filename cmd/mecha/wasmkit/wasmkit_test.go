package wasmkit_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mecha-mesh/mecha/cmd/mecha/wasmkit"
	"github.com/mecha-mesh/mecha/proxy/wasm/wat"
)

// TestNew: a new folder has what its language builds, and no words of the template.
func TestNew(t *testing.T) {
	for language, file := range map[string]string{"rust": "src/lib.rs", "go": "main.go", "assemblyscript": "assembly/index.ts", "c": "filter.c"} {
		t.Run(language, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "hello-1")
			if err := wasmkit.New(language, dir); err != nil {
				t.Fatal(err)
			}
			for _, name := range []string{file, "README.md", ".gitignore", "dialogues/filter.txt"} {
				text, err := os.ReadFile(filepath.Join(dir, name))
				if err != nil || len(text) == 0 || bytes.Contains(text, []byte("{{.")) {
					t.Errorf("%s: %v, %d bytes", name, err, len(text))
				}
			}
			if err := wasmkit.New(language, dir); err == nil || !strings.Contains(err.Error(), "not empty") {
				t.Errorf("over what is there: %v", err)
			}
		})
	}
}

// TestNewRefuses: what cannot become a filter is said before anything is written.
func TestNewRefuses(t *testing.T) {
	dir := t.TempDir()
	for what, err := range map[string]error{
		"rust, go, assemblyscript, c": wasmkit.New("cobol", filepath.Join(dir, "hello")),
		"begins with a letter":        wasmkit.New("go", filepath.Join(dir, "1st")),
		"lower-case":                  wasmkit.New("go", filepath.Join(dir, "Hello World")),
	} {
		if err == nil || !strings.Contains(err.Error(), what) {
			t.Errorf("%v does not say %q", err, what)
		}
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) > 0 {
		t.Errorf("there is %v, %v", entries, err)
	}
}

// TestMissingTools: who lacks a tool reads what to install.
func TestMissingTools(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	for language, what := range map[string]string{"rust": "rustup.rs", "go": "go.dev/dl", "assemblyscript": "nodejs.org", "c": "apt-get install clang lld"} {
		dir := filepath.Join(t.TempDir(), "hello")
		if err := wasmkit.New(language, dir); err != nil {
			t.Fatal(err)
		}
		if _, err := wasmkit.Build(t.Context(), dir, "", t.Output()); err == nil || !strings.Contains(err.Error(), what) {
			t.Errorf("%s: %v does not say %q", language, err, what)
		}
	}
	if _, err := wasmkit.Build(t.Context(), t.TempDir(), "", t.Output()); err == nil || !strings.Contains(err.Error(), "mecha wasm new") {
		t.Errorf("an empty folder: %v", err)
	}
}

// TestPlay: verdicts are about the module, and a rewritten dialogue passes.
func TestPlay(t *testing.T) {
	source, err := os.ReadFile("../../../filters/wasm/testdata/guests/add.wat")
	if err != nil {
		t.Fatal(err)
	}
	code, err := wat.Assemble(string(source))
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	module := filepath.Join(dir, "add.wasm")
	dialogue := filepath.Join(dir, "dialogues", "add.txt")
	if err := errors.Join(os.WriteFile(module, code, 0o600), os.Mkdir(filepath.Dir(dialogue), 0o700), os.WriteFile(dialogue, []byte(`=== adds
config
  routes:
  - match: {prefix: /}
    direct_response: {status: 200}

c> GET / HTTP/1.1
c> Host: a
c>
c< HTTP/1.1 200 OK
c< content-length: 0
c<
`), 0o600)); err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	play := func(rewrite bool) error {
		out.Reset()
		return wasmkit.Play(&out, dir, module, "", "", rewrite)
	}
	if err := play(false); !errors.Is(err, wasmkit.ErrFailed) || !strings.Contains(out.String(), "FAIL  mecha: adds") || !strings.Contains(out.String(), "x-wasm-response: hello") {
		t.Errorf("a header that is not expected: %v\n%s", err, out.String())
	}
	if err := play(true); err != nil {
		t.Errorf("rewriting: %v\n%s", err, out.String())
	}
	if err := play(false); err != nil || !strings.Contains(out.String(), "ok    mecha: adds") {
		t.Errorf("what was rewritten: %v\n%s", err, out.String())
	}
}
