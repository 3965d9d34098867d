package wasm

import (
	"context"
	"slices"

	"github.com/tetratelabs/wazero/api"
	"github.com/tetratelabs/wazero/imports/wasi_snapshot_preview1"
)

// Functions that a plugin may not call are there all the same, in modules of their own to
// which its imports are renamed: they fail.
const (
	deniedHost = "mecha.denied.env"
	deniedWASI = "mecha.denied.wasi"
)

// notCapable is WASI's errno for what one may not do.
const notCapable = 76

// restrict renames the imports that are not allowed; nil allows all.
func restrict(allowed []string) func(module, name string) string {
	if allowed == nil {
		return nil
	}
	return func(module, name string) string {
		switch {
		case slices.Contains(allowed, name):
		case module == "env":
			return deniedHost
		case module == wasi_snapshot_preview1.ModuleName, module == unstableWASI:
			return deniedWASI
		}
		return module
	}
}

// denied makes the functions that fail.
func (h *Host) denied(ctx context.Context) error {
	b := h.runtime.NewHostModuleBuilder(deniedHost)
	for name, f := range hostFunctions() {
		b.NewFunctionBuilder().WithGoModuleFunction(answer(uint64(StatusInternalFailure)), f.params(), f.results()).Export(name)
	}
	if _, err := b.Instantiate(ctx); err != nil {
		return err
	}
	b = h.runtime.NewHostModuleBuilder(deniedWASI)
	for name, d := range h.runtime.Module(wasi_snapshot_preview1.ModuleName).ExportedFunctionDefinitions() {
		b.NewFunctionBuilder().WithGoModuleFunction(answer(notCapable), d.ParamTypes(), d.ResultTypes()).Export(name)
	}
	_, err := b.Instantiate(ctx)
	return err
}

// answer is a function with one answer.
func answer(v uint64) api.GoModuleFunc {
	return func(_ context.Context, _ api.Module, stack []uint64) {
		if len(stack) > 0 {
			stack[0] = v
		}
	}
}
