package lua

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"
	"strings"

	glua "github.com/yuin/gopher-lua"
)

func validValue(v string) bool { return !strings.ContainsAny(v, "\r\n\x00") }

func validHost(addr string) bool {
	_, err := netip.ParseAddrPort(addr)
	return err == nil
}

// toLua makes a value of a script of one of metadata.
func toLua(l *glua.LState, v any) glua.LValue {
	switch v := v.(type) {
	case bool:
		return glua.LBool(v)
	case float64:
		return glua.LNumber(v)
	case string:
		return glua.LString(v)
	case []any:
		t := l.CreateTable(len(v), 0)
		for _, one := range v {
			t.Append(toLua(l, one))
		}
		return t
	case map[string]any:
		t := l.CreateTable(0, len(v))
		for key, one := range v {
			t.RawSetString(key, toLua(l, one))
		}
		return t
	}
	return glua.LNil
}

// maxDepth is how deep a value of a script may be nested.
const maxDepth = 32

// fromLua makes a value of metadata of one of a script.
func fromLua(l *glua.LState, v glua.LValue, depth int) any {
	switch v := v.(type) {
	case *glua.LNilType:
		return nil
	case glua.LBool:
		return bool(v)
	case glua.LNumber:
		return float64(v)
	case glua.LString:
		return string(v)
	case *glua.LTable:
		if depth == maxDepth {
			l.RaiseError("a table in dynamicMetadata is nested too deep")
		}
		if n := v.Len(); n > 0 {
			list := make([]any, 0, n)
			for i := 1; i <= n; i++ {
				list = append(list, fromLua(l, v.RawGetInt(i), depth+1))
			}
			return list
		}
		m := map[string]any{}
		v.ForEach(func(key, one glua.LValue) { m[glua.LVAsString(key)] = fromLua(l, one, depth+1) })
		return m
	}
	l.RaiseError("unexpected type '%s' in dynamicMetadata", v.Type())
	return nil
}

// table is an object for metadata that scripts only read.
type table struct{ m map[string]any }

func (h *host) pushMap(l *glua.LState, m map[string]any) int {
	l.Push(h.object("map", &table{m}))
	return 1
}

func tableOf(l *glua.LState) map[string]any {
	t, ok := l.CheckUserData(1).Value.(*table)
	if !ok {
		l.ArgError(1, "metadata expected")
	}
	return t.m
}

func mapMethods() methods {
	return methods{"get": func(l *glua.LState) int {
		l.Push(toLua(l, tableOf(l)[l.CheckString(2)]))
		return 1
	}}
}

func mapPairs(l *glua.LState) int { return pushPairs(l, tableOf(l)) }

// pushPairs pushes an iterator over a map, in the order of its keys.
func pushPairs[V any](l *glua.LState, m map[string]V) int {
	keys := slices.SortedFunc(maps.Keys(m), cmp.Compare[string])
	i := 0
	l.Push(l.NewFunction(func(l *glua.LState) int {
		if i == len(keys) {
			l.Push(glua.LNil)
			return 1
		}
		l.Push(glua.LString(keys[i]))
		l.Push(toLua(l, any(m[keys[i]])))
		i++
		return 2
	}))
	return 1
}
