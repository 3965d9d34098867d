package lua

import (
	"fmt"
	"math"
	mathbits "math/bits"

	lua "github.com/yuin/gopher-lua"
)

// bits are the functions of bit, as in LuaJIT: on 32 bits, with signed results.
var bits = map[string]lua.LGFunction{
	"tobit":  func(l *lua.LState) int { return pushBits(l, word(l, 1)) },
	"bnot":   func(l *lua.LState) int { return pushBits(l, ^word(l, 1)) },
	"band":   fold(func(a, b uint32) uint32 { return a & b }),
	"bor":    fold(func(a, b uint32) uint32 { return a | b }),
	"bxor":   fold(func(a, b uint32) uint32 { return a ^ b }),
	"lshift": shift(func(a uint32, n int) uint32 { return a << n }),
	"rshift": shift(func(a uint32, n int) uint32 { return a >> n }),
	"arshift": shift(func(a uint32, n int) uint32 {
		return uint32(int32(a) >> n)
	}),
	"rol":   shift(mathbits.RotateLeft32),
	"ror":   shift(func(a uint32, n int) uint32 { return mathbits.RotateLeft32(a, -n) }),
	"bswap": func(l *lua.LState) int { return pushBits(l, mathbits.ReverseBytes32(word(l, 1))) },
	"tohex": func(l *lua.LState) int {
		v, n := word(l, 1), l.OptInt(2, 8)
		format := "%08x"
		if n < 0 {
			format, n = "%08X", -n
		}
		text := fmt.Sprintf(format, v)
		l.Push(lua.LString(text[8-min(n, 8):]))
		return 1
	},
}

// word is an argument modulo 2^32.
func word(l *lua.LState, i int) uint32 {
	f := float64(l.CheckNumber(i))
	return uint32(int64(math.Mod(math.RoundToEven(f), 1<<32)))
}

func pushBits(l *lua.LState, v uint32) int {
	l.Push(lua.LNumber(int32(v)))
	return 1
}

func fold(f func(a, b uint32) uint32) lua.LGFunction {
	return func(l *lua.LState) int {
		v := word(l, 1)
		for i := 2; i <= l.GetTop(); i++ {
			v = f(v, word(l, i))
		}
		return pushBits(l, v)
	}
}

func shift(f func(a uint32, n int) uint32) lua.LGFunction {
	return func(l *lua.LState) int { return pushBits(l, f(word(l, 1), int(word(l, 2)&31))) }
}
