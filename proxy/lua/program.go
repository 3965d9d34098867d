// Package lua runs Lua 5.1 programs of the configuration, such as those of the HTTP filter
// lua, within limits: how many instructions a run may take, for how long, and how much
// memory it may make. A program is compiled once; what runs it are VMs from a pool, each of
// which runs one thing at a time.
//
// What a program may ask the proxy is not here: whoever runs it gives it objects.
package lua

import (
	"errors"
	"fmt"
	"strings"
	"sync"

	lua "github.com/yuin/gopher-lua"
	"github.com/yuin/gopher-lua/ast"
	"github.com/yuin/gopher-lua/parse"
)

// Program is a compiled source with VMs that run it. It is safe for concurrent use.
type Program struct {
	proto     *lua.FunctionProto
	constants map[string]bool
	setup     func(*VM) error
	limits    Limits

	mu   sync.Mutex
	idle []*VM
}

// maxIdle is how many VMs a program keeps that nobody uses.
const maxIdle = 64

// Compile compiles a source. setup is called for each VM before the source runs in it for
// the first time; what it sets, the source finds. The source is run once to see whether it
// can be.
func Compile(source string, limits Limits, setup func(*VM) error) (*Program, error) {
	proto, err := compile(source)
	if err != nil {
		return nil, err
	}
	p := &Program{proto: proto, constants: map[string]bool{}, setup: setup, limits: limits}
	p.collect(proto)
	vm, err := p.Take()
	if err != nil {
		return nil, err
	}
	vm.Put()
	return p, nil
}

// Mentions reports whether a text is one of the constants of the program, such as the
// name of a method that it calls.
func (p *Program) Mentions(text string) bool { return p.constants[text] }

func (p *Program) collect(f *lua.FunctionProto) {
	for _, c := range f.Constants {
		if s, ok := c.(lua.LString); ok {
			p.constants[string(s)] = true
		}
	}
	for _, inner := range f.FunctionPrototypes {
		p.collect(inner)
	}
}

// Take returns a VM in which the source has run. Put gives it back.
func (p *Program) Take() (*VM, error) {
	p.mu.Lock()
	if n := len(p.idle); n > 0 {
		vm := p.idle[n-1]
		p.idle = p.idle[:n-1]
		p.mu.Unlock()
		return vm, nil
	}
	p.mu.Unlock()
	return p.start()
}

// start makes a VM and runs the source in it.
func (p *Program) start() (*VM, error) {
	vm := newVM(p)
	if p.setup != nil {
		if err := p.setup(vm); err != nil {
			vm.L.Close()
			return nil, err
		}
	}
	vm.L.Push(vm.L.NewFunctionFromProto(p.proto))
	vm.L.Push(vm.concat)
	if err := vm.run(1); err != nil {
		vm.L.Close()
		return nil, err
	}
	return vm, nil
}

// chunkName is what LuaJIT calls a source in errors: its first line.
func chunkName(source string) string {
	line, _, more := strings.Cut(source, "\n")
	if more || len(line) > 60 {
		line = line[:min(len(line), 60)] + "..."
	}
	return `[string "` + line + `"]`
}

// concatName is a local variable of every chunk. No source can spell it.
const concatName = "\x00concat"

// maxSource bounds how deep a source can be nested: the compiler is recursive.
const maxSource = 1 << 20

// compile parses a source, puts functions that keep to the limits where operators do not,
// and compiles the result.
func compile(source string) (proto *lua.FunctionProto, err error) {
	name := chunkName(source)
	if len(source) > maxSource {
		return nil, fmt.Errorf("%s: is longer than %d bytes", name, maxSource)
	}
	chunk, err := parse.Parse(strings.NewReader(source), name)
	if err != nil {
		var pe *parse.Error
		if errors.As(err, &pe) {
			return nil, fmt.Errorf("%s:%d: %s near '%s'", name, pe.Pos.Line, pe.Message, pe.Token)
		}
		return nil, err
	}
	rewriteStmts(chunk)
	own := &ast.LocalAssignStmt{Names: []string{concatName}, Exprs: []ast.Expr{&ast.Comma3Expr{AdjustRet: true}}}
	own.SetLine(1)
	own.Exprs[0].SetLine(1)
	defer func() { // the compiler panics over what it cannot compile
		if v := recover(); v != nil {
			proto, err = nil, fmt.Errorf("%s: %v", name, v)
		}
	}()
	return lua.Compile(append([]ast.Stmt{own}, chunk...), name)
}
