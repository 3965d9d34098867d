// Package wasm is the host of Proxy-Wasm plugins, ABI 0.1.0, 0.2.0 and 0.2.1
// (https://github.com/proxy-wasm/spec): it loads their code, runs their callbacks, gives them
// the host functions that they ask for, and survives what they do.
//
// What comes in: code and a configuration (Config), and, call by call, what a callback is
// about (a Subject). What goes out: what the guest answers, or an error, after which the
// plugin's failure policy decides. Which hook calls which callback is for the filters.
//
// The words: a Module is compiled code. A VM is a module with its configuration; plugins
// with the same vm_id, code and configuration share one. An Instance is a running copy of a
// VM with memory of its own, used by one goroutine at a time; a VM has a few, so that
// streams need not wait for each other. A Plugin is a root_id in a VM with a configuration
// of its own. A Context is what the guest knows a stream by; it stays with its instance.
package wasm

import (
	"context"
	"fmt"
	"sync"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
	"github.com/tetratelabs/wazero/imports/wasi_snapshot_preview1"

	"github.com/mecha-mesh/mecha/proxy/wasm/meter"
)

// Limits of what guests may have.
const (
	// MaxCode is how long a module may be.
	MaxCode = 64 << 20
	// maxPages is how much memory an instance may have, in pages of 64 KiB.
	maxPages = 64 << 20 >> 16
	// recycleAt is how much memory an instance may have grown to before it is replaced.
	recycleAt = maxPages << 16 / 4 * 3
)

// unstableWASI is the name that WASI had before its first preview; AssemblyScript's SDK asks
// for it. As in Envoy, the functions are the same: those that SDKs call have not changed.
const unstableWASI = "wasi_unstable"

// Host runs the modules of a process. It is safe for concurrent use.
type Host struct {
	runtime wazero.Runtime
	mu      sync.Mutex
	modules map[moduleKey]*Module
	foreign map[string]foreign
}

// NewHost makes a host without modules.
func NewHost() (*Host, error) {
	ctx := context.Background()
	c := wazero.NewRuntimeConfig().WithMemoryLimitPages(maxPages).WithDebugInfoEnabled(false)
	h := &Host{runtime: wazero.NewRuntimeWithConfig(ctx, c), modules: map[moduleKey]*Module{}, foreign: foreignFunctions()}
	for _, name := range []string{wasi_snapshot_preview1.ModuleName, unstableWASI} {
		b := h.runtime.NewHostModuleBuilder(name)
		wasi_snapshot_preview1.NewFunctionExporter().ExportFunctions(b)
		if _, err := b.Instantiate(ctx); err != nil {
			return nil, fmt.Errorf("wasm: WASI: %w", err)
		}
	}
	b := h.runtime.NewHostModuleBuilder("env")
	for name, f := range hostFunctions() {
		b.NewFunctionBuilder().WithGoModuleFunction(f.call, f.params(), f.results()).Export(name)
	}
	if _, err := b.Instantiate(ctx); err != nil {
		return nil, fmt.Errorf("wasm: host functions: %w", err)
	}
	own := h.runtime.NewHostModuleBuilder(meter.Module)
	own.NewFunctionBuilder().WithGoModuleFunction(api.GoModuleFunc(refill), nil, nil).Export(meter.Refill)
	if _, err := own.Instantiate(ctx); err != nil {
		return nil, fmt.Errorf("wasm: the meter: %w", err)
	}
	if err := h.denied(ctx); err != nil {
		return nil, fmt.Errorf("wasm: denied functions: %w", err)
	}
	return h, nil
}

// Close ends everything that runs in the host.
func (h *Host) Close() error { return h.runtime.Close(context.Background()) }

// hostFunction is a function that guests import from "env".
type hostFunction struct {
	call api.GoModuleFunc
	sig  string // a letter for each parameter, i (i32) or l (i64); v at the end: no result
}

func (f hostFunction) params() (out []api.ValueType) {
	for _, c := range f.sig {
		switch c {
		case 'i':
			out = append(out, api.ValueTypeI32)
		case 'l':
			out = append(out, api.ValueTypeI64)
		}
	}
	return out
}

func (f hostFunction) results() []api.ValueType {
	if f.sig != "" && f.sig[len(f.sig)-1] == 'v' {
		return nil
	}
	return []api.ValueType{api.ValueTypeI32}
}
