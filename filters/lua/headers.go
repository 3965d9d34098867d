package lua

import (
	"strings"

	glua "github.com/yuin/gopher-lua"

	"github.com/mecha-mesh/mecha/proxy/header"
	"github.com/mecha-mesh/mecha/proxy/match"
)

// headerMethods are those of headers() and trailers().
func (h *host) headerMethods() methods {
	return methods{
		"get": func(l *glua.LState) int {
			_, m := h.header(l)
			return pushValues(l, m, match.HeaderName(l.CheckString(2)))
		},
		"getAtIndex": func(l *glua.LState) int {
			_, m := h.header(l)
			name, n := match.HeaderName(l.CheckString(2)), l.CheckInt(3)
			for v := range m.Values(name) {
				if n--; n < 0 {
					return pushText(l, strings.Clone(v))
				}
			}
			l.Push(glua.LNil)
			return 1
		},
		"getNumValues": func(l *glua.LState) int {
			_, m := h.header(l)
			l.Push(glua.LNumber(m.Count(match.HeaderName(l.CheckString(2)))))
			return 1
		},
		"add": func(l *glua.LState) int {
			m, name, value := h.change(l)
			m.Add(name, value)
			return 0
		},
		"replace": func(l *glua.LState) int {
			m, name, value := h.change(l)
			m.Set(name, value)
			return 0
		},
		"remove": func(l *glua.LState) int {
			r, m := h.header(l)
			r.modifies(l, m)
			m.Del(match.HeaderName(l.CheckString(2)))
			return 0
		},
		"setHttp1ReasonPhrase": func(l *glua.LState) int {
			h.header(l)
			l.CheckString(2) // HTTP/1 reason phrases have no meaning (RFC 9112 4)
			return 0
		},
	}
}

// pushValues pushes the values of a name, joined with commas, or nil.
func pushValues(l *glua.LState, m *header.Map, name string) int {
	value, there := m.Find(name)
	if !there {
		l.Push(glua.LNil)
		return 1
	}
	if m.Count(name) > 1 {
		var all []string
		for v := range m.Values(name) {
			all = append(all, v)
		}
		return pushText(l, strings.Join(all, ","))
	}
	return pushText(l, strings.Clone(value))
}

// change is the map, and the field that it is to get.
func (h *host) change(l *glua.LState) (m *header.Map, name, value string) {
	r, m := h.header(l)
	name, value = match.HeaderName(l.CheckString(2)), l.CheckString(3)
	if !validName(name) || strings.ContainsAny(value, "\r\n\x00") {
		l.RaiseError("the name or the value of the header has characters that it must not have")
	}
	r.modifies(l, m)
	return m, name, value
}

// validName reports whether a name is one of a field that can be sent.
func validName(name string) bool {
	rest := strings.TrimPrefix(name, ":")
	for i := range len(rest) {
		c := rest[i]
		if c <= ' ' || c >= 0x7f || strings.IndexByte(`()<>@,;:\"/[]?={}`, c) >= 0 {
			return false
		}
	}
	return rest != ""
}

// modifies notes that the head is about to be changed, and refuses it where it has gone on.
func (r *run) modifies(l *glua.LState, m *header.Map) {
	if m != r.headers {
		return
	}
	if r.passed && r.body == nil {
		l.RaiseError("header map can no longer be modified")
	}
	r.changed = !r.response
}

// fieldPairs is __pairs of header fields. What is changed meanwhile is not seen.
func (h *host) fieldPairs(l *glua.LState) int {
	_, m := h.header(l)
	var list [][2]string
	for name, value := range m.All() {
		list = append(list, [2]string{strings.Clone(name), strings.Clone(value)})
	}
	i := 0
	l.Push(l.NewFunction(func(l *glua.LState) int {
		if i == len(list) {
			l.Push(glua.LNil)
			return 1
		}
		l.Push(glua.LString(list[i][0]))
		l.Push(glua.LString(list[i][1]))
		i++
		return 2
	}))
	return 1
}
