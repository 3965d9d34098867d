package lua

import (
	"strings"
	"testing"

	lua "github.com/yuin/gopher-lua"
)

// run runs the function main of a source and returns the text that it puts into out.
func run(t *testing.T, source string, limits Limits) (string, error) {
	t.Helper()
	p, err := Compile(source, limits, nil)
	if err != nil {
		return "", err
	}
	vm, err := p.Take()
	if err != nil {
		t.Fatal(err)
	}
	defer vm.Put()
	err = vm.Call(vm.Function("main"), lua.LNil)
	return vm.L.GetGlobal("out").String(), err
}

// small are limits that tests meet soon.
var small = Limits{Instructions: 1_000_000, Time: DefaultLimits.Time, Bytes: 1 << 20, Heap: 32 << 20}

func TestPrograms(t *testing.T) {
	for _, c := range []struct{ source, want string }{
		{`out = "a" .. 1 .. 2.5 .. "b"`, "a12.5b"},
		{`local t = setmetatable({}, {__concat = function(a, b) return "[" .. tostring(type(a)) .. type(b) .. "]" end}) out = "x" .. t .. "y"`, "x[tablestring]"},
		{`local ok, e = pcall(function() return "x" .. nil end) out = e`, `[string "function main()..."]:2: attempt to concatenate a nil value`},
		{`local f = function(...) return ... end out = f(1, 2) .. f(3, 4)`, "13"},
		{`local t = {} for k, v in pairs(setmetatable({}, {__pairs = function(x) return function(_, k) if not k then return 1, "one" end end, x, nil end})) do t[#t+1] = k .. v end out = t[1]`, "1one"},
		{`out = ("abc"):rep(3) .. ("x"):upper() .. string.format("%5d|%s", 7, "y")`, "abcabcabcX    7|y"},
		{`out = (("a-b-c"):gsub("-", "+")) .. (("abc"):gsub("%w", "%0%0")) .. (("abc"):gsub("b", {b = "B"})) .. (("abc"):gsub("(b)(c)", function(x, y) return y .. x end))`, "a+b+caabbccaBcacb"},
		{`out = table.concat({1, "b", 3}, ", ") .. table.concat({1, 2, 3}, "", 2, 3)`, "1, b, 323"},
		{`local co = coroutine.create(function(a) local b = coroutine.yield(a + 1) return b * 2 end) local _, x = coroutine.resume(co, 1) local _, y = coroutine.resume(co, 10) out = x .. " " .. y .. " " .. coroutine.status(co)`, "2 20 dead"},
		{`local f = coroutine.wrap(function() for i = 1, 3 do coroutine.yield(i) end end) out = f() .. f() .. f()`, "123"},
		{`local f = coroutine.wrap(function() error("no", 0) end) local ok, e = pcall(f) out = tostring(ok) .. e`, "falseno"},
		{`out = bit.band(0xff, 0x0f) .. " " .. bit.bnot(0) .. " " .. bit.tohex(255, 4) .. " " .. bit.lshift(1, 31) .. " " .. bit.rol(0x80000001, 1) .. " " .. bit.bswap(1)`, "15 -1 00ff -2147483648 3 16777216"},
		{`out = type(io) .. type(require) .. type(dofile) .. type(loadfile) .. type(os.execute) .. type(os.getenv) .. type(debug) .. type(string.dump)`, strings.Repeat("nil", 8)},
		{`out = loadstring("return 1 .. 2")() .. tostring(loadstring("x ="))`, "12nil"},
		{`out = os.date("!%Y-%m-%dT%H:%M:%S %%", 0) .. os.date("!*t", 0).year`, "1970-01-01T00:00:00 %1970"},
	} {
		got, err := run(t, "function main()\n"+c.source+"\nend", DefaultLimits)
		if err != nil || got != c.want {
			t.Errorf("%s: %q %v, want %q", c.source, got, err, c.want)
		}
	}
}

// TestLimits: what does not end by itself is ended.
func TestLimits(t *testing.T) {
	for _, c := range []struct{ source, want string }{
		{`while true do end`, errInstructions.Error()},
		{`while true do pcall(function() while true do end end) end`, errInstructions.Error()},
		{`local f = coroutine.wrap(function() while true do end end) f()`, errInstructions.Error()},
		{`local co = coroutine.create(function() while true do end end) while true do coroutine.resume(co) end`, errInstructions.Error()},
		{`loadstring("while true do end")()`, errInstructions.Error()},
		{`local function f() return 1 + f() end f()`, "stack overflow"},
		{`local function f() local ok = pcall(f) return ok end f() error("deep", 0)`, "deep"},
		{`local s = "x" while true do s = s .. s end`, errBytes.Error()},
		{`local s = "x" while true do pcall(function() s = s .. s end) end`, errBytes.Error()},
		{`loadstring("local s = 'x' while true do s = s .. s end")()`, errBytes.Error()},
		{`local s = ("x"):rep(1e9)`, errBytes.Error()},
		{`local s = ("x"):rep(1e6) s:gsub(".", s)`, errBytes.Error()},
		{`local s = ("x"):rep(1e5) s:gsub(".", "%0%0" .. s)`, errBytes.Error()},
		{`local s = ("x"):rep(5e5) string.format("%s%s%s", s, s, s)`, errBytes.Error()},
		{`string.format("%999999d%999999d", 1, 1)`, errBytes.Error()},
		{`local t = {} for i = 1, 100 do t[i] = ("x"):rep(1e4) end for i = 1, 100 do table.concat(t) end`, errBytes.Error()},
		{`while true do coroutine.create(function() end) end`, errBytes.Error()},
		{`local t = {} for i = 1, 1e9 do t[i] = {i, {}, {}, {}} end`, "too"},
		{`unpack({}, 1, 1e8)`, "registry overflow"},
		{`local t = {} t[6e7] = 1 error("survived", 0)`, "survived"},
	} {
		_, err := run(t, "function main()\n"+c.source+"\nend", small)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.source, err, c.want)
		}
	}
}

// TestLimitedAgain: a VM that has met a limit is not used again.
func TestLimitedAgain(t *testing.T) {
	p, err := Compile(`n = 0 function main(loop) n = n + 1 while loop do end end`, small, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i, c := range []struct {
		loop lua.LBool
		n    string
	}{{false, "1"}, {false, "2"}, {true, "3"}, {false, "1"}} {
		vm, err := p.Take()
		if err != nil {
			t.Fatal(err)
		}
		err = vm.Call(vm.Function("main"), c.loop)
		if (err != nil) != bool(c.loop) || vm.L.GetGlobal("n").String() != c.n {
			t.Errorf("run %d: n=%s %v", i, vm.L.GetGlobal("n"), err)
		}
		vm.Put()
	}
}

func TestSourceErrors(t *testing.T) {
	for _, c := range []struct{ source, want string }{
		{"x = = 1", `[string "x = = 1"]:1: `},
		{"error('at once')", "at once"},
		{"while true do end", errInstructions.Error()},
		{"goto nowhere", "nowhere"},
		{strings.Repeat("x", maxSource+1), "longer"},
	} {
		if _, err := Compile(c.source, small, nil); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%.20q: %v, want %q", c.source, err, c.want)
		}
	}
}

// FuzzCompile: no source makes the compiler panic, or what it makes run for ever.
func FuzzCompile(f *testing.F) {
	for _, s := range []string{"x = 1", "return 'a' .. 1 .. {}", "for i = 1, 3 do local t = {[i] = function(...) return ... end} end", "goto x ::x::", "a.b:c'd'.e = -2^3 and not #x"} {
		f.Add(s)
	}
	limits := Limits{Instructions: 10_000, Time: DefaultLimits.Time, Bytes: 1 << 16, Heap: 64 << 20}
	f.Fuzz(func(t *testing.T, source string) {
		_, _ = Compile(source, limits, nil) // refused or not
	})
}
