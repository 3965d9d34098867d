package wasm

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
)

// Instance is a running copy of a VM. Its guest runs on one goroutine at a time, which holds
// mu; what of the host a guest waits for is never waited for with mu held.
//
// An Instance is the context.Context of the calls that it makes, by which host functions
// know it without an allocation.
type Instance struct {
	vm *VM
	mu sync.Mutex

	module     api.Module
	memory     api.Memory
	functions  [callbacks]api.Function
	allocate   api.Function // proxy_on_memory_allocate, or malloc
	stack      [8]uint64    // parameters and result of a callback
	inner      [1]uint64    // of allocate
	inAllocate bool
	budget     budget
	scratch    []byte // of properties

	contexts map[uint32]*Context
	roots    map[string]*Context // by plugin key
	last     uint32              // the newest context

	effective *Context   // on behalf of which the guest acts
	ended     []*Context // that the guest has finished with, in the callback that runs
	call      *callInfo
	calls     int                  // HTTP and gRPC calls that are waited for
	grpc      map[uint32]*grpcCall // by token
	token     uint32               // of the newest one
	life      context.Context      // ends when the instance is closed
	end       func()
	atStart   uint32 // bytes of memory, when the guest had started
	broken    error  // why no new stream comes here; those that are here go on
	noRoot    bool   // a root has failed: what streams wait for may not come
	full      bool   // no new stream comes here: the memory has grown too much
	closed    bool
	users     int // contexts of streams
}

// Deadline implements context.Context.
func (in *Instance) Deadline() (time.Time, bool) { return time.Time{}, false }

// Done implements context.Context.
func (in *Instance) Done() <-chan struct{} { return nil }

// Err implements context.Context.
func (in *Instance) Err() error { return nil }

// Value implements context.Context.
func (in *Instance) Value(any) any { return nil }

var _ context.Context = (*Instance)(nil)

// start makes an instance and runs the code that it begins with.
func (vm *VM) start() (*Instance, error) {
	in := &Instance{vm: vm, contexts: map[uint32]*Context{}, roots: map[string]*Context{}}
	in.life, in.end = context.WithCancel(context.Background())
	in.budget.begin(startBudget)
	c := wazero.NewModuleConfig().WithName("").WithStartFunctions().
		WithSysWalltime().WithSysNanotime().WithRandSource(rand.Reader).
		WithStdout(output{vm, levelInfo}).WithStderr(output{vm, levelError})
	for _, e := range vm.config.Environment {
		c = c.WithEnv(e.Name, e.Value)
	}
	m, err := vm.module.host.runtime.InstantiateModule(in, vm.module.compiled, c)
	if err != nil {
		in.end()
		return nil, fmt.Errorf("wasm: %w", err)
	}
	vm.lifecycle.Created.Inc()
	vm.lifecycle.Active.Inc()
	in.module, in.memory = m, m.Memory()
	for i := range callbacks {
		n := callbackNames[i]
		params := n.params
		if p, ok := params010[i]; ok && vm.module.abi == ABI010 {
			params = p
		}
		if vm.module.has(n.name, params) {
			in.functions[i] = m.ExportedFunction(n.name)
		}
	}
	for _, name := range []string{"malloc", "proxy_on_memory_allocate"} {
		if vm.module.has(name, 1) {
			in.allocate = m.ExportedFunction(name)
		}
	}
	if err := in.begin(); err != nil {
		return nil, errors.Join(err, in.close())
	}
	return in, nil
}

// begin calls what a module is initialised by.
func (in *Instance) begin() error {
	for _, name := range []string{"_initialize", "_start"} {
		f := in.module.ExportedFunction(name)
		if f == nil {
			continue
		}
		if err := in.run(f, in.stack[:], startBudget); err != nil {
			return fmt.Errorf("wasm: %s: %w", name, err)
		}
		break
	}
	return nil
}

// run calls a function of the guest. An error is a trap: the guest is not to be trusted any
// more.
func (in *Instance) run(f api.Function, stack []uint64, limit time.Duration) error {
	in.budget.begin(limit)
	err := f.CallWithStack(in, stack)
	if err != nil {
		in.broken = err
	}
	return err
}

// invoke calls a callback on behalf of c. ok is false where the guest has none.
func (in *Instance) invoke(c *Context, cb callback, args ...uint64) (result uint64, ok bool, err error) {
	f := in.functions[cb]
	if f == nil || in.closed || c.failed {
		return 0, false, nil
	}
	limit := callBudget
	if cb <= onConfigure {
		limit = startBudget
	}
	stack := in.stack[:]
	n := callbackNames[cb].params
	stack[0] = uint64(c.id)
	copy(stack[1:n], args)
	before := in.effective
	in.effective = c
	err = in.run(f, stack, limit)
	in.effective = before
	result = stack[0]
	if len(in.ended) > 0 && err == nil {
		in.finish()
	}
	return result, true, err
}

// finish deletes the contexts whose end the guest has put off until now.
func (in *Instance) finish() {
	all := in.ended
	in.ended = nil
	for _, c := range all {
		c.over = true
		_, _, _ = in.invoke(c, onDelete) // a guest that fails is out of use
		delete(in.contexts, c.id)
	}
}

// close ends the instance. Nothing may run in it.
func (in *Instance) close() error {
	if in.closed {
		return nil
	}
	in.closed = true
	in.end()
	for _, c := range in.contexts {
		c.over = true
		if c.timer != nil {
			c.timer.Stop()
		}
	}
	in.vm.lifecycle.Active.Dec()
	return in.module.Close(context.Background())
}
