// Package wasm_test builds the filters of this folder, and a new one in each language, and
// plays their dialogues. It needs the languages' tools: make test-wasm installs them.
package wasm_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/mecha-mesh/mecha/cmd/mecha/wasmkit"
	"github.com/mecha-mesh/mecha/proxy/filter/filtertest/dialogue"
)

// needTools skips tests that build filters where make test-wasm is not what runs them. It
// returns the mecha that make has built.
func needTools(t *testing.T) string {
	t.Helper()
	mecha := os.Getenv("MECHA_WASM")
	if mecha == "" {
		t.Skip("MECHA_WASM names no mecha: make test-wasm sets it")
	}
	return mecha
}

// shareBuilds has Rust's filters built in one folder, so that what all of them use is built
// once.
func shareBuilds(t *testing.T) { t.Setenv("CARGO_TARGET_DIR", t.TempDir()) }

// playEverywhere builds a filter and plays its dialogues here and, where there is one, on Envoy.
func playEverywhere(t *testing.T, dir string) {
	t.Helper()
	module, err := wasmkit.Build(t.Context(), dir, filepath.Join(t.TempDir(), filepath.Base(dir)+".wasm"), t.Output())
	if err != nil {
		t.Fatal(err)
	}
	about, dialogues := wasmkit.About(module), filepath.Join(dir, "dialogues", "*.txt")
	t.Run("mecha", func(t *testing.T) { dialogue.MechaAbout(t, about, dialogues) })
	t.Run("envoy", func(t *testing.T) { dialogue.OracleAbout(t, about, dialogues) })
}

// TestExamples: every example does the same on mecha and on Envoy.
func TestExamples(t *testing.T) {
	needTools(t)
	shareBuilds(t)
	dirs, err := filepath.Glob("*/dialogues")
	if err != nil || len(dirs) == 0 {
		t.Fatal(dirs, err)
	}
	for _, dir := range dirs {
		dir = filepath.Dir(dir)
		t.Run(dir, func(t *testing.T) { playEverywhere(t, dir) })
	}
}

// TestNewFilters: what mecha wasm new makes can be built, and does what it says.
func TestNewFilters(t *testing.T) {
	needTools(t)
	shareBuilds(t)
	for _, language := range wasmkit.Languages() {
		t.Run(language, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "hello")
			if err := wasmkit.New(language, dir); err != nil {
				t.Fatal(err)
			}
			playEverywhere(t, dir)
		})
	}
}
