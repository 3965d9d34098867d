package wasm_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mecha-mesh/mecha/proxy/wasm/wat"
)

// guests assembles testdata/guests into a folder of the test.
func guests(tb testing.TB) string {
	tb.Helper()
	dir := tb.TempDir()
	files, err := filepath.Glob("testdata/guests/*.wat")
	if err != nil {
		tb.Fatal(err)
	}
	for _, file := range files {
		source, err := os.ReadFile(file)
		if err != nil {
			tb.Fatal(err)
		}
		code, err := wat.Assemble(string(source))
		if err != nil {
			tb.Fatalf("%s: %v", file, err)
		}
		name := strings.TrimSuffix(filepath.Base(file), ".wat") + ".wasm"
		if err := os.WriteFile(filepath.Join(dir, name), code, 0o600); err != nil {
			tb.Fatal(err)
		}
	}
	return dir
}
