package wasm

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/tetratelabs/wazero"

	"github.com/mecha-mesh/mecha/proxy/wasm/meter"
)

// ABI is a version of the Proxy-Wasm ABI.
type ABI uint8

// The versions.
const (
	ABI010 ABI = iota + 1
	ABI020
	ABI021
)

// markers are the exports by which a module says which version it speaks.
var markers = []string{"proxy_abi_version_0_1_0", "proxy_abi_version_0_2_0", "proxy_abi_version_0_2_1"}

type moduleKey [sha256.Size]byte

// Module is compiled code. Whoever has one releases it.
type Module struct {
	host     *Host
	key      moduleKey
	users    int
	compiled wazero.CompiledModule
	abi      ABI
	allowed  []string // nil: all
}

// Load compiles code, or returns what was compiled of the same code before.
// allowed are the names that it may import and export; nil: all.
func (h *Host) Load(code []byte, allowed []string) (*Module, error) {
	if len(code) > MaxCode {
		return nil, fmt.Errorf("wasm: the code has %d bytes, more than %d", len(code), MaxCode)
	}
	key := moduleKey(sha256.Sum256(fmt.Appendf(slices.Clone(code), "%q", allowed)))
	h.mu.Lock()
	defer h.mu.Unlock()
	m := h.modules[key]
	if m == nil {
		var err error
		if m, err = h.compile(code, allowed); err != nil {
			return nil, err
		}
		m.key = key
		h.modules[key] = m
	}
	m.users++
	return m, nil
}

func (h *Host) compile(code []byte, allowed []string) (*Module, error) {
	code, err := meter.Rewrite(code, meter.Options{Rename: restrict(allowed)})
	if err != nil {
		return nil, fmt.Errorf("wasm: the code is not usable: %w", err)
	}
	ctx := context.Background()
	c, err := h.runtime.CompileModule(ctx, code)
	if err != nil {
		return nil, fmt.Errorf("wasm: the code is not usable: %w", err)
	}
	m := &Module{host: h, compiled: c, allowed: allowed}
	exports := c.ExportedFunctions()
	for i, name := range markers {
		if _, ok := exports[name]; ok {
			m.abi = ABI(i + 1)
		}
	}
	if m.abi == 0 {
		err = errors.New("wasm: the code exports no proxy_abi_version_0_1_0, _0_2_0 or _0_2_1: it is no Proxy-Wasm plugin")
	} else if len(c.ExportedMemories()) == 0 {
		err = errors.New("wasm: the code exports no memory")
	}
	if err != nil {
		return nil, errors.Join(err, c.Close(ctx))
	}
	return m, nil
}

// Release gives the module up; the last one to do so frees it.
func (m *Module) Release() {
	m.host.mu.Lock()
	defer m.host.mu.Unlock()
	if m.users--; m.users == 0 {
		delete(m.host.modules, m.key)
		_ = m.compiled.Close(context.Background()) // it only forgets
	}
}

// has reports whether the code exports a function with that name and as many parameters.
func (m *Module) has(name string, params int) bool {
	if m.allowed != nil && strings.HasPrefix(name, "proxy_on_") && name != "proxy_on_memory_allocate" && !slices.Contains(m.allowed, name) {
		return false
	}
	d, ok := m.compiled.ExportedFunctions()[name]
	return ok && len(d.ParamTypes()) == params && !slices.ContainsFunc(d.ParamTypes(), func(t byte) bool { return t != 0x7f })
}
