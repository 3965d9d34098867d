package wasm_test

import (
	"testing"

	"github.com/mecha-mesh/mecha/proxy/wasm"
	"github.com/mecha-mesh/mecha/proxy/wasm/wat"
)

// TestUnstableWASI: guests may ask for WASI by the name that it had before its preview.
func TestUnstableWASI(t *testing.T) {
	guest, err := wat.Assemble(`(module
  (import "wasi_unstable" "proc_exit" (func $exit (param i32)))
  (memory (export "memory") 1)
  (func (export "proxy_abi_version_0_2_0"))
  (func (export "proxy_on_context_create") (param i32 i32))
)`)
	if err != nil {
		t.Fatal(err)
	}
	for what, allowed := range map[string][]string{"all": nil, "restricted": {"proxy_on_context_create"}} {
		t.Run(what, func(t *testing.T) {
			open(t, func(c *wasm.Config) { c.VM.Code, c.VM.Allowed = string(guest), allowed })
		})
	}
}
