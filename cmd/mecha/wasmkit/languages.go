package wasmkit

import (
	"context"
	"embed"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
)

//go:embed templates
var templates embed.FS

// wasip1 is the target of Rust's compiler.
const wasip1 = "wasm32-wasip1"

func rust() *language {
	return &language{
		name: "rust", title: "Rust", sign: "Cargo.toml",
		templates: map[string]string{"Cargo.toml": "Cargo.toml.txt", "Cargo.lock": "Cargo.lock.txt", "src/lib.rs": "lib.rs.txt"},
		tools:     []tool{{"cargo", "install Rust from https://rustup.rs"}},
		build:     buildRust,
	}
}

func buildRust(ctx context.Context, b *builder) error {
	lib, err := b.output(ctx, "rustc", "--print", "target-libdir", "--target", wasip1)
	if err != nil {
		return err
	}
	if _, err := os.Stat(lib); err != nil {
		return fmt.Errorf("Rust's standard library for %s is not installed: rustup target add %s", wasip1, wasip1)
	}
	if err := b.run(ctx, nil, "cargo", "build", "--release", "--target", wasip1); err != nil {
		return err
	}
	text, err := b.output(ctx, "cargo", "metadata", "--format-version", "1", "--no-deps")
	if err != nil {
		return err
	}
	var metadata struct {
		TargetDirectory string `json:"target_directory"`
		Packages        []struct {
			Targets []struct {
				Name  string   `json:"name"`
				Types []string `json:"crate_types"`
			} `json:"targets"`
		} `json:"packages"`
	}
	if err := json.Unmarshal([]byte(text), &metadata); err != nil {
		return fmt.Errorf("cargo metadata: %w", err)
	}
	for _, p := range metadata.Packages {
		for _, t := range p.Targets {
			if slices.Contains(t.Types, "cdylib") {
				return move(filepath.Join(metadata.TargetDirectory, wasip1, "release", t.Name+".wasm"), b.out)
			}
		}
	}
	return fmt.Errorf(`%s/Cargo.toml has no [lib] with crate-type = ["cdylib"]`, b.dir)
}

// move copies a file: cargo wants to find it again.
func move(from, to string) error {
	code, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return os.WriteFile(to, code, 0o644)
}

func golang() *language {
	return &language{
		name: "go", title: "Go", sign: "go.mod",
		templates: map[string]string{"go.mod": "go.mod.txt", "go.sum": "go.sum.txt", "main.go": "main.go.txt"},
		tools:     []tool{{"go", "install Go 1.24 or later from https://go.dev/dl"}},
		build: func(ctx context.Context, b *builder) error {
			return b.run(ctx, []string{"GOOS=wasip1", "GOARCH=wasm", "CGO_ENABLED=0", "GOWORK=off"},
				"go", "build", "-buildmode=c-shared", "-trimpath", "-buildvcs=false", "-ldflags=-s -w", "-o", b.out, ".")
		},
	}
}

func assemblyScript() *language {
	const node = "install Node.js from https://nodejs.org"
	return &language{
		name: "assemblyscript", title: "AssemblyScript", sign: "package.json",
		templates: map[string]string{"package.json": "package.json.txt", "package-lock.json": "package-lock.json.txt", "assembly/index.ts": "index.ts.txt"},
		tools:     []tool{{"node", node}, {"npm", node}},
		build:     buildAssemblyScript,
	}
}

func buildAssemblyScript(ctx context.Context, b *builder) error {
	compiler := filepath.Join("node_modules", "assemblyscript", "bin", "asc")
	if _, err := os.Stat(filepath.Join(b.dir, compiler)); err != nil {
		if err := b.run(ctx, nil, "npm", "ci", "--no-audit", "--no-fund"); err != nil {
			return err
		}
	}
	return b.run(ctx, nil, "node", compiler, "assembly/index.ts", "--binaryFile", b.out, "--use", "abort=abort_proc_exit", "--optimize")
}

func c() *language {
	return &language{
		name: "c", title: "C", sign: "*.c",
		templates: map[string]string{"proxywasm.h": "proxywasm.h.txt", "filter.c": "filter.c.txt"},
		tools: []tool{
			{"clang", "install LLVM's clang (apt-get install clang lld)"},
			{"wasm-ld", "install LLVM's linker (apt-get install lld)"},
		},
		build: buildC,
	}
}

func buildC(ctx context.Context, b *builder) error {
	files, err := filepath.Glob(filepath.Join(b.dir, "*.c"))
	if err != nil {
		return err
	}
	linker, err := exec.LookPath("wasm-ld")
	if err != nil {
		return err
	}
	args := []string{
		"--target=wasm32", "-O2", "-Wall", "-ffreestanding", "-nostdlib", "-fuse-ld=" + linker,
		"-Wl,--no-entry", "-Wl,--strip-debug", "-o", b.out,
	}
	return b.run(ctx, nil, "clang", append(args, files...)...)
}
