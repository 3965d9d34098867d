package wasm

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/stats"
)

// VMConfig is envoy.extensions.wasm.v3.VmConfig.
type VMConfig struct {
	ID            string // vm_id
	Runtime       string // as configured: it is only a name, in statistics
	Code          string
	Remote        *Remote // where the code comes from, in place of Code
	Configuration string
	Environment   []Variable
	// Allowed are the functions that guests may import, and the callbacks that they may
	// export (capability_restriction_config); nil: all.
	Allowed []string
}

// Variable is an environment variable of a guest.
type Variable struct{ Name, Value string }

// VM is a module with its configuration, and the instances of it.
type VM struct {
	config VMConfig
	env    filter.Env
	once   sync.Once
	err    error

	host   *sharedHost
	module *Module
	broker *broker
	*lifecycle
	release func() // of lifecycle

	live    atomic.Pointer[[]*Instance] // those that new streams may use; replaced, never changed
	next    atomic.Uint32
	mu      sync.Mutex // for what follows, and for replacing live
	plugins []*Plugin
	growing bool
	closed  bool
}

// sharedHost is the host of the process, or why there is none.
type sharedHost struct {
	*Host
	broker  *broker
	codes   *codes
	err     error
	release func()
}

func newSharedHost(env filter.Env) *sharedHost {
	h := &sharedHost{broker: newBroker(env.Stats), codes: &codes{by: map[string]string{}, underway: map[string]bool{}}}
	h.Host, h.err = NewHost()
	h.codes.fetches, h.release = stats.SharedAt[fetches](env.Stats, stats.Path("wasm")...)
	return h
}

// Close implements io.Closer.
func (h *sharedHost) Close() error {
	h.release()
	if h.Host == nil {
		return nil
	}
	return h.Host.Close()
}

var _ io.Closer = (*sharedHost)(nil)

// open loads the code, once.
func (vm *VM) open() error {
	vm.once.Do(func() { vm.err = vm.load() })
	return vm.err
}

func (vm *VM) load() error {
	if vm.host.err != nil {
		return vm.host.err
	}
	var err error
	if vm.module, err = vm.host.Load([]byte(vm.config.Code), vm.config.Allowed); err != nil {
		return err
	}
	vm.broker = vm.host.broker
	vm.lifecycle, vm.release = stats.SharedAt[lifecycle](vm.env.Stats, stats.Path("wasm", vm.config.Runtime)...)
	vm.live.Store(&[]*Instance{})
	return nil
}

// Close implements io.Closer: the last plugin has gone.
func (vm *VM) Close() error {
	vm.mu.Lock()
	vm.closed = true
	all := vm.instances()
	vm.live.Store(&[]*Instance{})
	vm.mu.Unlock()
	var errs []error
	for _, in := range all {
		in.mu.Lock()
		errs = append(errs, in.close())
		in.mu.Unlock()
	}
	if vm.module != nil {
		vm.module.Release()
	}
	if vm.release != nil {
		vm.release()
	}
	return errors.Join(errs...)
}

func (vm *VM) instances() []*Instance {
	if p := vm.live.Load(); p != nil {
		return *p
	}
	return nil
}

// most is how many instances a VM has.
func most() int { return runtime.GOMAXPROCS(0) }

// attach makes p one of the plugins of the VM: all instances know it, and there is one.
func (vm *VM) attach(p *Plugin) error {
	vm.mu.Lock()
	defer vm.mu.Unlock()
	for _, in := range vm.instances() {
		in.mu.Lock()
		err := in.configure(p)
		in.mu.Unlock()
		if err != nil {
			return err
		}
	}
	vm.plugins = append(vm.plugins, p)
	if len(vm.instances()) > 0 {
		return nil
	}
	_, err := vm.grow()
	if err != nil {
		vm.plugins = slices.DeleteFunc(vm.plugins, func(o *Plugin) bool { return o == p })
	}
	return err
}

// detach takes p away from all instances.
func (vm *VM) detach(p *Plugin) {
	vm.mu.Lock()
	defer vm.mu.Unlock()
	vm.plugins = slices.DeleteFunc(vm.plugins, func(o *Plugin) bool { return o == p })
	for _, in := range vm.instances() {
		in.mu.Lock()
		in.retire(p)
		in.mu.Unlock()
	}
}

// grow adds an instance. vm.mu is held.
func (vm *VM) grow() (*Instance, error) {
	in, err := vm.start()
	if err != nil {
		return nil, err
	}
	in.mu.Lock() // a timer may call the guest as soon as it has been set
	defer in.mu.Unlock()
	for _, p := range vm.plugins {
		if err := in.configure(p); err != nil {
			return nil, errors.Join(err, in.close())
		}
	}
	all := append(slices.Clone(vm.instances()), in)
	vm.live.Store(&all)
	return in, nil
}

// take returns an instance with its lock held: one that is idle, if there is one. Where all
// are busy another one is made for those who come later.
func (vm *VM) take() (*Instance, error) {
	all := vm.instances()
	if len(all) > 0 {
		start := int(vm.next.Add(1))
		for i := range all {
			in := all[(start+i)%len(all)]
			if in.mu.TryLock() {
				if in.usable() {
					return in, nil
				}
				in.mu.Unlock()
			}
		}
		if len(all) < most() {
			vm.growLater()
		}
		in := all[start%len(all)]
		in.mu.Lock()
		if in.usable() {
			return in, nil
		}
		in.mu.Unlock()
	}
	vm.mu.Lock()
	defer vm.mu.Unlock()
	if vm.closed {
		return nil, errClosed
	}
	for _, in := range vm.instances() {
		in.mu.Lock()
		if in.usable() {
			return in, nil
		}
		in.mu.Unlock()
	}
	in, err := vm.grow()
	if err != nil {
		return nil, err
	}
	in.mu.Lock()
	return in, nil
}

var errClosed = errors.New("wasm: the VM is closed")

func (in *Instance) usable() bool { return in.broken == nil && !in.closed && !in.full }

// growLater adds an instance while others do the work.
func (vm *VM) growLater() {
	if !vm.mu.TryLock() {
		return
	}
	defer vm.mu.Unlock()
	if vm.growing || vm.closed {
		return
	}
	vm.growing = true
	go func() {
		vm.mu.Lock()
		defer vm.mu.Unlock()
		vm.growing = false
		if vm.closed || len(vm.instances()) >= most() {
			return
		}
		if _, err := vm.grow(); err != nil {
			vm.env.Log.Warn("wasm: no further instance", "vm_id", vm.config.ID, "err", err)
		}
	}()
}

// drop takes an instance that is broken out of use; it is closed with its last context.
// in.mu is held.
func (vm *VM) drop(in *Instance) {
	go func() { // vm.mu comes before in.mu
		vm.mu.Lock()
		all := slices.DeleteFunc(slices.Clone(vm.instances()), func(o *Instance) bool { return o == in })
		vm.live.Store(&all)
		vm.mu.Unlock()
		in.mu.Lock()
		defer in.mu.Unlock()
		if in.users == 0 {
			_ = in.close() // it only forgets
		}
	}()
}

const (
	levelInfo  = slog.LevelInfo
	levelError = slog.LevelError
)

// output is what a guest prints.
type output struct {
	vm    *VM
	level slog.Level
}

func (o output) Write(p []byte) (int, error) {
	o.vm.env.Log.Log(context.Background(), o.level, "wasm log: "+string(trimLine(p)), "vm_id", o.vm.config.ID)
	return len(p), nil
}

func trimLine(p []byte) []byte {
	if n := len(p); n > 0 && p[n-1] == '\n' {
		return p[:n-1]
	}
	return p
}
