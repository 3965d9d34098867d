package lua

import (
	"strings"

	lua "github.com/yuin/gopher-lua"
)

// join is a..b..c: from the right, as the operator.
func (vm *VM) join(l *lua.LState) int {
	n := l.GetTop()
	total := 0
	for i := 1; i <= n; i++ {
		switch v := l.Get(i).(type) {
		case lua.LString:
			total += len(v)
		case lua.LNumber:
			total += maxNumber
		default:
			return vm.joinObjects(l, n)
		}
	}
	vm.Charge(l, total)
	var out strings.Builder
	for i := 1; i <= n; i++ {
		if s, ok := l.Get(i).(lua.LString); ok {
			out.WriteString(string(s))
		} else {
			out.WriteString(l.Get(i).String())
		}
	}
	l.Push(lua.LString(out.String()))
	return 1
}

// maxNumber is how long the text of a number may be.
const maxNumber = 32

// joinObjects is join where not all operands are texts or numbers.
func (vm *VM) joinObjects(l *lua.LState, n int) int {
	right := l.Get(n)
	for i := n - 1; i >= 1; i-- {
		left := l.Get(i)
		if lua.LVCanConvToString(left) && lua.LVCanConvToString(right) {
			a, b := lua.LVAsString(left), lua.LVAsString(right)
			vm.Charge(l, len(a)+len(b))
			right = lua.LString(a + b)
			continue
		}
		f := l.GetMetaField(left, "__concat")
		if f == lua.LNil {
			f = l.GetMetaField(right, "__concat")
		}
		if f == lua.LNil {
			bad := right
			if !lua.LVCanConvToString(left) {
				bad = left
			}
			l.RaiseError("attempt to concatenate a %s value", bad.Type())
		}
		l.Push(f)
		l.Push(left)
		l.Push(right)
		l.Call(2, 1)
		right = l.Get(-1)
		l.Pop(1)
	}
	l.Push(right)
	return 1
}

// openStrings replaces the functions of string that can make long texts out of short ones.
func (vm *VM) openStrings() {
	t := vm.L.GetGlobal(lua.StringLibName).(*lua.LTable)
	wrap := func(name string, most func(l *lua.LState) int) {
		inner := t.RawGetString(name).(*lua.LFunction).GFunction
		t.RawSetString(name, vm.L.NewFunction(func(l *lua.LState) int {
			vm.Charge(l, most(l))
			return inner(l)
		}))
	}
	first := func(l *lua.LState) int { return len(l.CheckString(1)) }
	for _, name := range []string{"upper", "lower", "reverse"} {
		wrap(name, first)
	}
	t.RawSetString("rep", vm.L.NewFunction(vm.repeat))
	t.RawSetString("dump", lua.LNil)
	wrap("format", func(l *lua.LState) int {
		n := 0
		for i := 1; i <= l.GetTop(); i++ {
			n += maxNumber
			if s, ok := l.Get(i).(lua.LString); ok {
				n += 4 * len(s) // %q writes \ddd
			}
		}
		return n + widths(l.CheckString(1))
	})
	gsub := t.RawGetString("gsub").(*lua.LFunction).GFunction
	t.RawSetString("gsub", vm.L.NewFunction(vm.substitute(gsub)))
}

// widths is how much the widths and precisions in a format can add.
func widths(format string) (sum int) {
	n := 0
	for i := range len(format) {
		if c := format[i]; '0' <= c && c <= '9' {
			n = min(n*10+int(c-'0'), 1<<30)
			continue
		}
		sum, n = min(sum+n, 1<<40), 0
	}
	return sum + n
}

func (vm *VM) repeat(l *lua.LState) int {
	s, n := l.CheckString(1), l.CheckInt(2)
	if n <= 0 || s == "" {
		l.Push(lua.LString(""))
		return 1
	}
	if n > vm.budget.Bytes/len(s) {
		n = vm.budget.Bytes/len(s) + 1 // too many, whatever is left
	}
	vm.Charge(l, n*len(s))
	l.Push(lua.LString(strings.Repeat(s, n)))
	return 1
}

// substitute is gsub. Where the replacement is computed, each one is charged; a fixed one
// is charged as if it were put everywhere.
func (vm *VM) substitute(gsub lua.LGFunction) lua.LGFunction {
	return func(l *lua.LState) int {
		s := len(l.CheckString(1))
		vm.Charge(l, s)
		var find func(l *lua.LState) lua.LValue
		switch repl := l.Get(3).(type) {
		case *lua.LFunction:
			find = func(l *lua.LState) lua.LValue {
				n := l.GetTop()
				l.Insert(repl, 1)
				l.Call(n, 1)
				return l.Get(-1)
			}
		case *lua.LTable:
			find = func(l *lua.LState) lua.LValue { return l.GetTable(repl, l.Get(1)) }
		default:
			text := lua.LVAsString(repl)
			if strings.Contains(text, "%") {
				vm.Charge(l, (s+1)*len(text)+strings.Count(text, "%")*s)
				return gsub(l)
			}
			find = func(*lua.LState) lua.LValue { return lua.LString(text) }
		}
		l.Replace(3, l.NewFunction(func(l *lua.LState) int {
			v := find(l)
			vm.Charge(l, len(lua.LVAsString(v)))
			l.Push(v)
			return 1
		}))
		return gsub(l)
	}
}

// openTables replaces table.concat.
func (vm *VM) openTables() {
	t := vm.L.GetGlobal(lua.TabLibName).(*lua.LTable)
	t.RawSetString("concat", vm.L.NewFunction(func(l *lua.LState) int {
		list, sep, from := l.CheckTable(1), l.OptString(2, ""), l.OptInt(3, 1)
		to := l.OptInt(4, list.Len())
		var out strings.Builder
		for i := from; i <= to; i++ {
			v := list.RawGetInt(i)
			if !lua.LVCanConvToString(v) {
				l.RaiseError("invalid value (%s) at index %d in table for concat", v.Type().String(), i)
			}
			text := lua.LVAsString(v)
			vm.Charge(l, len(text)+len(sep))
			out.WriteString(text)
			if i < to {
				out.WriteString(sep)
			}
		}
		l.Push(lua.LString(out.String()))
		return 1
	}))
}

// threadBytes is what a coroutine costs.
const threadBytes = registers*16 + 4096

// openCoroutines makes coroutines that are within the limits of the run.
func (vm *VM) openCoroutines() {
	t := vm.L.GetGlobal(lua.CoroutineLibName).(*lua.LTable)
	resume := t.RawGetString("resume")
	inner := t.RawGetString("create").(*lua.LFunction).GFunction
	made := func(l *lua.LState) int {
		vm.Charge(l, threadBytes)
		l.RemoveContext() // or the coroutine would get a context of its own, without limits
		n := inner(l)
		l.SetContext(&vm.budget)
		l.Get(-1).(*lua.LState).SetContext(&vm.budget)
		return n
	}
	t.RawSetString("create", vm.L.NewFunction(made))
	t.RawSetString("wrap", vm.L.NewFunction(func(l *lua.LState) int {
		made(l)
		th := l.Get(-1)
		l.Push(l.NewFunction(func(l *lua.LState) int {
			l.Insert(resume, 1)
			l.Insert(th, 2)
			l.Call(l.GetTop()-1, lua.MultRet)
			if lua.LVIsFalse(l.Get(1)) {
				l.Error(l.Get(2), 0)
			}
			return l.GetTop() - 1
		}))
		return 1
	}))
}
