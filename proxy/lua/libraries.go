package lua

import (
	"strings"
	"time"

	lua "github.com/yuin/gopher-lua"
)

// removed are the globals of the library that reach files, run what was not compiled here,
// or look into the machine.
var removed = []string{"dofile", "loadfile", "module", "require", "newproxy", "_printregs", "collectgarbage", "print", "load", "loadstring"}

// openLibraries gives a VM what programs find: the basic functions, string, table, math,
// coroutine, bit, and the clock of os. There is nothing that reaches files, processes or
// the network.
func (vm *VM) openLibraries() {
	l := vm.L
	for _, lib := range []struct {
		name string
		open lua.LGFunction
	}{
		{lua.BaseLibName, lua.OpenBase}, {lua.TabLibName, lua.OpenTable}, {lua.StringLibName, lua.OpenString},
		{lua.MathLibName, lua.OpenMath}, {lua.CoroutineLibName, lua.OpenCoroutine},
	} {
		l.Push(l.NewFunction(lib.open))
		l.Push(lua.LString(lib.name))
		l.Call(1, 0)
	}
	for _, name := range removed {
		l.SetGlobal(name, lua.LNil)
	}
	l.SetGlobal("collectgarbage", l.NewFunction(func(l *lua.LState) int {
		l.Push(lua.LNumber(0))
		return 1
	}))
	l.SetGlobal("pairs", l.NewFunction(pairs(l.GetGlobal("pairs"))))
	l.SetGlobal("loadstring", l.NewFunction(vm.loadString))
	l.SetGlobal("load", l.NewFunction(vm.load))
	vm.concat = l.NewFunction(vm.join)
	vm.openStrings()
	vm.openTables()
	vm.openCoroutines()
	l.SetGlobal("os", l.SetFuncs(l.NewTable(), clock))
	l.SetGlobal("bit", l.SetFuncs(l.NewTable(), bits))
}

// pairs is the function with the metamethod __pairs, which LuaJIT knows.
func pairs(plain lua.LValue) lua.LGFunction {
	return func(l *lua.LState) int {
		v := l.CheckAny(1)
		f := plain
		if own := l.GetMetaField(v, "__pairs"); own != lua.LNil {
			f = own
		}
		l.SetTop(1)
		l.Insert(f, 1)
		l.Call(1, 3)
		return 3
	}
}

// loadString compiles a text as the program was compiled.
func (vm *VM) loadString(l *lua.LState) int { return vm.compileInto(l, l.CheckString(1)) }

func (vm *VM) load(l *lua.LState) int {
	if source, ok := l.Get(1).(lua.LString); ok {
		return vm.compileInto(l, string(source))
	}
	f := l.CheckFunction(1)
	var source strings.Builder
	for {
		l.Push(f)
		l.Call(0, 1)
		piece := l.Get(-1)
		l.Pop(1)
		if piece == lua.LNil || piece == lua.LString("") {
			return vm.compileInto(l, source.String())
		}
		vm.Charge(l, len(lua.LVAsString(piece)))
		source.WriteString(lua.LVAsString(piece))
	}
}

// compileInto pushes the function that a source is, or nil and why it is none. What was
// compiled costs some memory, too.
func (vm *VM) compileInto(l *lua.LState, source string) int {
	vm.Charge(l, 64*len(source))
	proto, err := compile(source)
	if err != nil {
		l.Push(lua.LNil)
		l.Push(lua.LString(err.Error()))
		return 2
	}
	inner := l.NewFunctionFromProto(proto)
	l.Push(l.NewClosure(func(l *lua.LState) int {
		l.SetTop(0)
		l.Push(inner)
		l.Push(vm.concat)
		l.Call(1, lua.MultRet)
		return l.GetTop()
	}))
	return 1
}

// clock are the functions of os.
var clock = map[string]lua.LGFunction{
	"time": func(l *lua.LState) int {
		if l.GetTop() == 0 || l.Get(1) == lua.LNil {
			l.Push(lua.LNumber(time.Now().Unix()))
			return 1
		}
		t := l.CheckTable(1)
		field := func(name string, otherwise int) int {
			if n, ok := t.RawGetString(name).(lua.LNumber); ok {
				return int(n)
			}
			return otherwise
		}
		at := time.Date(field("year", 1970), time.Month(field("month", 1)), field("day", 1), field("hour", 12), field("min", 0), field("sec", 0), 0, time.Local)
		l.Push(lua.LNumber(at.Unix()))
		return 1
	},
	"clock": func(l *lua.LState) int {
		l.Push(lua.LNumber(float64(time.Now().UnixMicro()) / 1e6))
		return 1
	},
	"difftime": func(l *lua.LState) int {
		l.Push(l.CheckNumber(1) - l.CheckNumber(2))
		return 1
	},
	"date": date,
}

// maxFormat is how long a format of os.date may be.
const maxFormat = 1 << 10

// directives are what os.date knows, in the layouts of package time.
var directives = map[byte]string{
	'a': "Mon", 'A': "Monday", 'b': "Jan", 'B': "January", 'c': "Mon Jan  2 15:04:05 2006", 'd': "02", 'H': "15", 'I': "03",
	'j': "002", 'm': "01", 'M': "04", 'p': "PM", 'S': "05", 'x': "01/02/06", 'X': "15:04:05", 'y': "06", 'Y': "2006", 'Z': "MST", 'z': "-0700",
	'D': "01/02/06", 'F': "2006-01-02", 'T': "15:04:05", 'e': "_2",
}

func date(l *lua.LState) int {
	format := l.OptString(1, "%c")
	at := time.Now()
	if l.GetTop() > 1 {
		at = time.Unix(l.CheckInt64(2), 0)
	}
	if rest, utc := strings.CutPrefix(format, "!"); utc {
		format, at = rest, at.UTC()
	}
	if len(format) > maxFormat {
		l.RaiseError("the format is longer than %d bytes", maxFormat)
	}
	if strings.HasPrefix(format, "*t") {
		l.Push(calendar(l, at))
		return 1
	}
	var out []byte
	for i := 0; i < len(format); i++ {
		if format[i] != '%' || i+1 == len(format) {
			out = append(out, format[i])
			continue
		}
		i++
		if layout, ok := directives[format[i]]; ok {
			out = at.AppendFormat(out, layout)
		} else if format[i] == '%' {
			out = append(out, '%')
		} else {
			out = append(out, '%', format[i])
		}
	}
	l.Push(lua.LString(out))
	return 1
}

// calendar is the table of os.date("*t").
func calendar(l *lua.LState, at time.Time) *lua.LTable {
	t := l.NewTable()
	for name, n := range map[string]int{
		"year": at.Year(), "month": int(at.Month()), "day": at.Day(), "hour": at.Hour(), "min": at.Minute(),
		"sec": at.Second(), "wday": int(at.Weekday()) + 1, "yday": at.YearDay(),
	} {
		t.RawSetString(name, lua.LNumber(n))
	}
	t.RawSetString("isdst", lua.LBool(at.IsDST()))
	return t
}
