package lua

import (
	"context"
	"errors"
	"runtime/metrics"
	"sync"
	"time"

	lua "github.com/yuin/gopher-lua"
)

// Limits bound one run of a program. Time that it waits for others does not count.
type Limits struct {
	Instructions int           // of the virtual machine
	Time         time.Duration // that it computes
	Bytes        int           // of the texts that it makes
	Heap         int           // by how much the memory of the process may grow meanwhile
}

// DefaultLimits are generous: they stop what does not end by itself.
var DefaultLimits = Limits{Instructions: 10_000_000, Time: 5 * time.Second, Bytes: 64 << 20, Heap: 256 << 20}

// What a run that has met a limit fails with.
var (
	errInstructions = errors.New("the script has taken too many instructions")
	errTime         = errors.New("the script has run for too long")
	errBytes        = errors.New("the script has made too much text")
	errHeap         = errors.New("the script has taken too much memory")
)

// VM runs one thing at a time.
type VM struct {
	L *lua.LState
	// Host is whatever the owner of the program needs with a VM; see Compile.
	Host any

	program *Program
	concat  *lua.LFunction
	budget  budget
}

// The sizes of a VM: frames of calls, values in registers.
const (
	maxCalls     = 4096
	registers    = 512
	maxRegisters = 256 << 10
)

// arrays keeps t[1e7] = x from making an array of that length: it is an entry of a hash
// table then. The library has one setting for all of the process.
var arrays = sync.OnceFunc(func() { lua.MaxArrayIndex = 1 << 16 })

func newVM(p *Program) *VM {
	arrays()
	vm := &VM{program: p, L: lua.NewState(lua.Options{
		CallStackSize: maxCalls, MinimizeStackMemory: true,
		RegistrySize: registers, RegistryMaxSize: maxRegisters, RegistryGrowStep: registers,
		SkipOpenLibs: true,
	})}
	vm.budget = budget{Limits: p.limits}
	vm.L.SetContext(&vm.budget)
	vm.openLibraries()
	return vm
}

// Put gives the VM back. One that has met a limit is not used again.
func (vm *VM) Put() {
	p := vm.program
	if vm.budget.over == nil {
		p.mu.Lock()
		if len(p.idle) < maxIdle {
			p.idle = append(p.idle, vm)
			p.mu.Unlock()
			return
		}
		p.mu.Unlock()
	}
	vm.L.Close()
}

// Call calls a function with one argument.
func (vm *VM) Call(f *lua.LFunction, argument lua.LValue) error {
	vm.L.Push(f)
	vm.L.Push(argument)
	return vm.run(1)
}

// Function returns a global function of the program, nil if there is none.
func (vm *VM) Function(name string) *lua.LFunction {
	f, _ := vm.L.GetGlobal(name).(*lua.LFunction)
	return f
}

// run calls what was pushed.
func (vm *VM) run(arguments int) error {
	vm.budget.begin()
	defer vm.L.SetTop(0)
	if err := vm.L.PCall(arguments, 0, nil); err != nil {
		return vm.explain(err)
	}
	return nil
}

// explain is an error without the trace of the library.
func (vm *VM) explain(err error) error {
	if over := vm.budget.over; over != nil {
		return over
	}
	var ae *lua.ApiError
	if !errors.As(err, &ae) || ae.Object == nil {
		return err
	}
	return errors.New(lua.LVAsString(vm.L.ToStringMeta(ae.Object)))
}

// Waited tells that the program has waited for somebody else: that is not its time.
func (vm *VM) Waited(d time.Duration) { vm.budget.until = vm.budget.until.Add(d) }

// Charge counts bytes of text that the program makes, and fails it if they are too many.
func (vm *VM) Charge(l *lua.LState, n int) {
	if !vm.budget.charge(n) {
		l.RaiseError("%s", errBytes.Error())
	}
}

// budget is what a run may still take. It is the context of the library, which asks for
// Done before each instruction.
type budget struct {
	Limits
	left, look int // instructions, and until the clock is looked at
	bytes      int
	until      time.Time
	heap       uint64 // most of the process
	over       error  // the limit that was met
	sample     [1]metrics.Sample
}

var _ context.Context = (*budget)(nil)

// lookEvery is how many instructions go by between two looks at clock and memory.
const lookEvery = 4096

func (b *budget) begin() {
	b.left, b.look, b.bytes = b.Instructions, lookEvery, b.Bytes
	b.until, b.heap, b.over = time.Time{}, 0, nil
}

// stopped is closed: what Done returns when there is nothing left.
var stopped = func() chan struct{} {
	c := make(chan struct{})
	close(c)
	return c
}()

// Done implements context.Context.
func (b *budget) Done() <-chan struct{} {
	if b.look--; b.look > 0 {
		return nil
	}
	return b.check()
}

func (b *budget) check() <-chan struct{} {
	if b.over != nil {
		return stopped
	}
	b.look = lookEvery
	b.left -= lookEvery
	now := time.Now()
	heap := b.objects()
	switch {
	case b.until.IsZero(): // the first look: most runs have none
		b.until, b.heap = now.Add(b.Time), heap+uint64(b.Heap)
	case now.After(b.until):
		b.end(errTime)
	case heap > b.heap:
		b.end(errHeap)
	}
	if b.left <= 0 {
		b.end(errInstructions)
	}
	if b.over != nil {
		return stopped
	}
	return nil
}

func (b *budget) end(why error) {
	b.over = why
	b.look = 0 // no further instruction
}

// objects is how much memory the objects of the process take.
func (b *budget) objects() uint64 {
	b.sample[0].Name = "/memory/classes/heap/objects:bytes"
	metrics.Read(b.sample[:])
	return b.sample[0].Value.Uint64()
}

func (b *budget) charge(n int) bool {
	if n > b.bytes {
		b.end(errBytes)
		return false
	}
	b.bytes -= n
	return true
}

// Err implements context.Context.
func (b *budget) Err() error { return b.over }

// Deadline implements context.Context.
func (*budget) Deadline() (time.Time, bool) { return time.Time{}, false }

// Value implements context.Context.
func (*budget) Value(any) any { return nil }

// Limited reports whether an error is that of a run that has met a limit.
func Limited(err error) bool {
	return errors.Is(err, errInstructions) || errors.Is(err, errTime) || errors.Is(err, errBytes) || errors.Is(err, errHeap)
}

// Abandon makes the run end with its next instruction; the VM is not used again.
func (vm *VM) Abandon() { vm.budget.end(errAbandoned) }

var errAbandoned = errors.New("nobody waits for the script any more")
