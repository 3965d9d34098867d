package wasm

import (
	"encoding/binary"
	"strings"

	"github.com/mecha-mesh/mecha/proxy/header"
)

// mapOf is the header map that the guest asks for, nil where it is not there.
func (in *Instance) mapOf(t MapType) (m *header.Map, writable bool) {
	if m := in.answerMap(t); m != nil {
		return m, false
	}
	s := in.subject()
	if s == nil {
		return nil, false
	}
	return s.Map(t)
}

// name reads a field name, in lower case, which is kept by m.
func (in *Instance) name(m *header.Map, ptr, n uint64) (string, bool) {
	p, ok := in.view(ptr, n)
	if !ok {
		return "", false
	}
	return m.Format(func(dst []byte) []byte {
		for _, b := range p {
			if 'A' <= b && b <= 'Z' {
				b += 'a' - 'A'
			}
			dst = append(dst, b)
		}
		return dst
	}), true
}

// valid reports whether a field may have that name and value: a line end would be a field
// of its own.
func valid(name, value string) bool {
	if name == "" || strings.ContainsAny(name, " \t:\r\n\x00") && !strings.HasPrefix(name, ":") || strings.ContainsAny(value, "\r\n\x00") {
		return false
	}
	return true
}

func (in *Instance) mapSize(a []uint64) Status {
	m, _ := in.mapOf(MapType(a[0]))
	if m == nil {
		return StatusBadArgument
	}
	return in.put32(a[1], uint32(m.Bytes()))
}

func (in *Instance) mapValue(a []uint64) Status {
	m, _ := in.mapOf(MapType(a[0]))
	if m == nil {
		return StatusBadArgument
	}
	name, ok := in.name(m, a[1], a[2])
	if !ok {
		return StatusInvalidMemoryAccess
	}
	v, ok := m.Find(name)
	if !ok && in.vm.module.abi != ABI010 {
		return StatusNotFound
	}
	return in.give(v, a[3], a[4])
}

func (in *Instance) mapPairs(a []uint64) Status {
	m, _ := in.mapOf(MapType(a[0]))
	n := 4
	if m != nil {
		n += m.Len()*10 + m.Bytes()
	}
	p, status := in.room(n, a[1], a[2])
	if status != StatusOK {
		return status
	}
	if m == nil {
		clear(p)
		return StatusOK
	}
	binary.LittleEndian.PutUint32(p, uint32(m.Len()))
	at, text := 4, 4+8*m.Len()
	for f := range m.Fields() {
		binary.LittleEndian.PutUint32(p[at:], uint32(len(f.Name)))
		binary.LittleEndian.PutUint32(p[at+4:], uint32(len(f.Value)))
		at += 8
		text += copy(p[text:], f.Name)
		p[text] = 0
		text++
		text += copy(p[text:], f.Value)
		p[text] = 0
		text++
	}
	return StatusOK
}

// readPairs reads a list of pairs as guests write it: how many there are, the lengths of
// their names and values, and those, each with a zero behind it.
func readPairs(p []byte, yield func(name, value []byte) bool) bool {
	if len(p) == 0 {
		return true
	}
	if len(p) < 4 {
		return false
	}
	n := int(binary.LittleEndian.Uint32(p))
	if n > (len(p)-4)/10 {
		return false
	}
	sizes, text := p[4:4+8*n], p[4+8*n:]
	cut := func(size uint32) (s []byte, ok bool) {
		if uint64(size)+1 > uint64(len(text)) {
			return nil, false
		}
		s, text = text[:size], text[size+1:]
		return s, true
	}
	for ; n > 0; n-- {
		name, ok := cut(binary.LittleEndian.Uint32(sizes))
		if !ok {
			return false
		}
		value, ok := cut(binary.LittleEndian.Uint32(sizes[4:]))
		if !ok || !yield(name, value) {
			return false
		}
		sizes = sizes[8:]
	}
	return true
}

func (in *Instance) setMapPairs(a []uint64) Status {
	t := MapType(a[0])
	m, writable := in.mapOf(t)
	if m == nil || !writable {
		return StatusBadArgument
	}
	p, ok := in.view(a[1], a[2])
	if !ok {
		return StatusInvalidMemoryAccess
	}
	check := func(name, value []byte) bool { return valid(string(name), string(value)) }
	if !readPairs(p, check) {
		return StatusBadArgument
	}
	m.DelFunc(func(header.Field) bool { return true })
	readPairs(p, func(name, value []byte) bool {
		m.Add(lower(m, name), m.Copy(value))
		return true
	})
	in.effective.subject.Changed(t)
	return StatusOK
}

func lower(m *header.Map, p []byte) string {
	return m.Format(func(dst []byte) []byte {
		for _, b := range p {
			if 'A' <= b && b <= 'Z' {
				b += 'a' - 'A'
			}
			dst = append(dst, b)
		}
		return dst
	})
}

// change reads a name and a value for a map, and has edit put them into it.
func (in *Instance) change(a []uint64, edit func(m *header.Map, name, value string)) Status {
	t := MapType(a[0])
	m, writable := in.mapOf(t)
	if m == nil || !writable {
		return StatusBadArgument
	}
	p, ok := in.view(a[3], a[4])
	if !ok {
		return StatusInvalidMemoryAccess
	}
	name, ok := in.name(m, a[1], a[2])
	if !ok {
		return StatusInvalidMemoryAccess
	}
	value := m.Copy(p)
	if !valid(name, value) {
		return StatusBadArgument
	}
	edit(m, name, value)
	in.effective.subject.Changed(t)
	return StatusOK
}

func (in *Instance) addMapValue(a []uint64) Status     { return in.change(a, (*header.Map).Add) }
func (in *Instance) replaceMapValue(a []uint64) Status { return in.change(a, (*header.Map).Set) }

func (in *Instance) removeMapValue(a []uint64) Status {
	t := MapType(a[0])
	m, writable := in.mapOf(t)
	if m == nil || !writable {
		return StatusBadArgument
	}
	name, ok := in.name(m, a[1], a[2])
	if !ok {
		return StatusInvalidMemoryAccess
	}
	m.Del(name)
	in.effective.subject.Changed(t)
	return StatusOK
}
