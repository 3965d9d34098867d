package lua

import (
	glua "github.com/yuin/gopher-lua"

	"github.com/mecha-mesh/mecha/proxy/header"
	"github.com/mecha-mesh/mecha/proxy/lua"
)

// host is what scripts find in a VM: the objects and their methods. The objects are those
// of whatever run the VM is used for; without one they cannot be used.
type host struct {
	vm                *lua.VM
	run               *run
	request, response *glua.LFunction

	handle   *glua.LUserData
	head     *glua.LUserData // headers()
	trailing *glua.LUserData // trailers()
	single   map[string]*glua.LUserData
	classes  map[string]*glua.LTable
}

// function returns a function of the script; it is looked up once.
func (h *host) function(name string) *glua.LFunction {
	f := &h.request
	if name == onResponse {
		f = &h.response
	}
	if *f == nil {
		*f = h.vm.Function(name)
	}
	return *f
}

// object is an object of a script that has a name only.
type object struct{ class string }

// fields is an object for header fields; trailers says which.
type fields struct{ trailers bool }

// newHost is called for each VM before the script runs in it.
func newHost(vm *lua.VM) error {
	h := &host{vm: vm, single: map[string]*glua.LUserData{}, classes: map[string]*glua.LTable{}}
	vm.Host = h
	h.class("handle", h.handleMethods())
	h.class("headers", h.headerMethods())
	h.class("body", h.bodyMethods())
	h.class("map", mapMethods())
	for class, methods := range h.infoMethods() {
		h.class(class, methods)
		h.single[class] = h.object(class, &object{class})
	}
	h.classes["headers"].RawSetString("__pairs", vm.L.NewFunction(h.fieldPairs))
	h.classes["map"].RawSetString("__pairs", vm.L.NewFunction(mapPairs))
	h.classes["dynamicMetadata"].RawSetString("__pairs", vm.L.NewFunction(h.metadataPairs))
	h.handle = h.object("handle", &object{"handle"})
	h.head, h.trailing = h.object("headers", &fields{}), h.object("headers", &fields{true})
	resolution := vm.L.NewTable()
	resolution.RawSetString("MILLISECOND", glua.LNumber(0))
	resolution.RawSetString("MICROSECOND", glua.LNumber(1))
	vm.L.SetGlobal("EnvoyTimestampResolution", resolution)
	vm.L.SetGlobal("print", vm.L.NewFunction(h.print))
	return nil
}

type methods = map[string]glua.LGFunction

func (h *host) class(name string, m methods) {
	mt := h.vm.L.NewTable()
	mt.RawSetString("__index", h.vm.L.SetFuncs(h.vm.L.NewTable(), m))
	h.classes[name] = mt
}

func (h *host) object(class string, value any) *glua.LUserData {
	u := h.vm.L.NewUserData()
	u.Value, u.Metatable = value, h.classes[class]
	return u
}

// current is the run that a method is called in.
func (h *host) current(l *glua.LState) *run {
	if h.run == nil || h.run.reply != nil {
		l.RaiseError("object used outside of proper scope")
	}
	return h.run
}

// on makes a method of an object that has a name only: f gives its result.
func (h *host) on(class string, f func(l *glua.LState, r *run) int) glua.LGFunction {
	return func(l *glua.LState) int {
		if o, ok := l.CheckUserData(1).Value.(*object); !ok || o.class != class {
			l.ArgError(1, class+" expected")
		}
		return f(l, h.current(l))
	}
}

// header is the map that an object for header fields is about.
func (h *host) header(l *glua.LState) (r *run, m *header.Map) {
	u, ok := l.CheckUserData(1).Value.(*fields)
	if !ok {
		l.ArgError(1, "headers expected")
	}
	r = h.current(l)
	if m = r.headers; u.trailers {
		if m = r.trailers; m == nil {
			l.RaiseError("object used outside of proper scope")
		}
	}
	return r, m
}

func pushText(l *glua.LState, text string) int {
	l.Push(glua.LString(text))
	return 1
}
