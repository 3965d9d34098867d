// Package header holds the fields of an HTTP message in the order in which they
// arrived. Names and values are views of the slab that the codec read, so a Map
// is filled without copying; well-known names are found by index.
//
// Parsing and writing of the wire formats are not here: see package codec.
package header

import (
	"iter"
	"strconv"
	"unsafe"
)

// Field is one header field. The pseudo-headers of HTTP/2 (":method", ":path",
// ":authority", ":scheme", ":status") are fields like any other and exist for
// HTTP/1 too.
type Field struct {
	Name  string // lower case
	Value string
	ID    ID // of Name
}

// Map is an ordered multimap of header fields. The zero value is empty and ready
// to use. Names given to its methods are lower case. Strings that are put into a
// Map are lent to it until Reset; strings that come out of it are valid until
// then too, and whoever keeps one longer clones it.
//
// A Map is not safe for concurrent use.
type Map struct {
	fields []Field
	first  [known]uint16 // position of the first live field of an ID, plus one
	live   int
	bytes  int
	arena  []byte

	spelling *Spelling // kept from message to message
	spelled  bool      // it is about this one
}

// Reset empties m and keeps its memory for the next message.
func (m *Map) Reset() {
	if m.spelled {
		m.spelled = false
		m.spelling.reset()
	}
	if len(m.fields) == 0 && len(m.arena) == 0 {
		return // most maps of trailers
	}
	clear(m.fields)
	m.fields = m.fields[:0]
	m.first = [known]uint16{}
	m.live, m.bytes = 0, 0
	if cap(m.arena) > maxArena {
		m.arena = nil
	}
	m.arena = m.arena[:0]
}

// maxArena is the most bytes of copied values for which a Map keeps the memory
// from message to message.
const maxArena = 4 << 10

// Len returns the number of fields, pseudo-headers included.
func (m *Map) Len() int { return m.live }

// Bytes returns the sum of the lengths of all names and values.
func (m *Map) Bytes() int { return m.bytes }

// All yields names and values in order.
func (m *Map) All() iter.Seq2[string, string] {
	return func(yield func(string, string) bool) {
		for i := range m.fields {
			if f := &m.fields[i]; f.Name != "" && !yield(f.Name, f.Value) {
				return
			}
		}
	}
}

// Fields yields the fields in order.
func (m *Map) Fields() iter.Seq[Field] {
	return func(yield func(Field) bool) {
		for i := range m.fields {
			if m.fields[i].Name != "" && !yield(m.fields[i]) {
				return
			}
		}
	}
}

// Get returns the first value of name, "" if there is none.
func (m *Map) Get(name string) string {
	v, _ := m.Find(name)
	return v
}

// Find returns the first value of name and whether there is one.
func (m *Map) Find(name string) (string, bool) {
	if i := m.index(Lookup(name), name); i >= 0 {
		return m.fields[i].Value, true
	}
	return "", false
}

// Value returns the first value of a well-known header, "" if there is none.
func (m *Map) Value(id ID) string {
	if i := m.first[id]; i != 0 {
		return m.fields[i-1].Value
	}
	return ""
}

// StatusCode returns the number in ":status", 0 if there is none.
func (m *Map) StatusCode() int {
	n, _ := strconv.Atoi(m.Value(Status))
	return n
}

// Has reports whether a well-known header is present.
func (m *Map) Has(id ID) bool { return m.first[id] != 0 }

// Values yields every value of name in order.
func (m *Map) Values(name string) iter.Seq[string] {
	return func(yield func(string) bool) {
		id := Lookup(name)
		for i := m.index(id, name); i >= 0 && i < len(m.fields); i++ {
			if f := &m.fields[i]; f.Name == name && !yield(f.Value) {
				return
			}
		}
	}
}

// Count returns how many fields of that name there are.
func (m *Map) Count(name string) int {
	n := 0
	for range m.Values(name) {
		n++
	}
	return n
}

// Add appends a field. One without a name is no field: it is left out.
func (m *Map) Add(name, value string) { m.add(Lookup(name), name, value) }

// AddID appends a field with a well-known name.
func (m *Map) AddID(id ID, value string) { m.add(id, names[id], value) }

// AddKnown appends a field whose name was looked up already: id is Lookup(name).
func (m *Map) AddKnown(id ID, name, value string) {
	if id != Other {
		name = names[id]
	}
	m.add(id, name, value)
}

func (m *Map) add(id ID, name, value string) {
	if name == "" {
		return
	}
	m.fields = append(m.fields, Field{name, value, id})
	if id != Other && m.first[id] == 0 {
		m.first[id] = uint16(len(m.fields))
	}
	m.live++
	m.bytes += len(name) + len(value)
}

// Set replaces all fields of that name by one, at the place of the first.
func (m *Map) Set(name, value string) { m.set(Lookup(name), name, value) }

// SetID replaces all fields of a well-known name by one, at the place of the first.
func (m *Map) SetID(id ID, value string) { m.set(id, names[id], value) }

func (m *Map) set(id ID, name, value string) {
	i := m.index(id, name)
	if i < 0 {
		m.add(id, name, value)
		return
	}
	m.bytes += len(value) - len(m.fields[i].Value)
	m.fields[i].Value = value
	m.drop(i+1, id, name)
}

// SetInt sets a well-known header to a decimal number.
func (m *Map) SetInt(id ID, n int64) {
	start := len(m.arena)
	m.arena = strconv.AppendInt(m.arena, n, 10)
	m.SetID(id, m.arenaString(start))
}

// Del removes all fields of that name and reports whether there were any.
func (m *Map) Del(name string) bool { return m.del(Lookup(name), name) }

// DelID removes all fields of a well-known name and reports whether there were any.
func (m *Map) DelID(id ID) bool { return m.del(id, names[id]) }

func (m *Map) del(id ID, name string) bool {
	i := m.index(id, name)
	if i < 0 {
		return false
	}
	m.drop(i, id, name)
	m.first[id] = 0
	return true
}

// DelFunc removes the fields for which drop answers true.
func (m *Map) DelFunc(drop func(Field) bool) {
	for i := range m.fields {
		f := m.fields[i]
		if f.Name == "" || !drop(f) {
			continue
		}
		m.kill(i)
		if f.ID != Other && int(m.first[f.ID]) == i+1 {
			m.first[f.ID] = uint16(m.next(i+1, f.ID, f.Name) + 1)
		}
	}
}

// drop kills the fields of that name from position i on.
func (m *Map) drop(i int, id ID, name string) {
	for ; i < len(m.fields); i++ {
		if f := &m.fields[i]; f.ID == id && f.Name == name {
			m.kill(i)
		}
	}
}

func (m *Map) kill(i int) {
	f := &m.fields[i]
	m.live--
	m.bytes -= len(f.Name) + len(f.Value)
	*f = Field{}
}

// index returns the position of the first field of that name, or -1.
func (m *Map) index(id ID, name string) int {
	if id != Other {
		return int(m.first[id]) - 1
	}
	return m.next(0, Other, name)
}

func (m *Map) next(i int, id ID, name string) int {
	for ; i < len(m.fields); i++ {
		if f := &m.fields[i]; f.ID == id && f.Name == name && name != "" {
			return i
		}
	}
	return -1
}

// Copy keeps a copy of p in m and returns it as a string that is valid until Reset.
func (m *Map) Copy(p []byte) string {
	start := len(m.arena)
	m.arena = append(m.arena, p...)
	return m.arenaString(start)
}

// Concat keeps the concatenation of its arguments in m and returns it as a string
// that is valid until Reset.
func (m *Map) Concat(parts ...string) string {
	start := len(m.arena)
	for _, p := range parts {
		m.arena = append(m.arena, p...)
	}
	return m.arenaString(start)
}

// Format lets f append to a scratch slice and returns what it appended as a
// string that is valid until Reset.
func (m *Map) Format(f func(dst []byte) []byte) string {
	start := len(m.arena)
	m.arena = f(m.arena)
	return m.arenaString(start)
}

func (m *Map) arenaString(start int) string {
	if start == len(m.arena) {
		return ""
	}
	// Growing the arena leaves the old memory to the strings that point into it.
	return unsafe.String(&m.arena[start], len(m.arena)-start)
}

// Keep copies what m has borrowed into its own memory: from then on it outlives what it
// was read from.
func (m *Map) Keep() {
	for i := range m.fields {
		f := &m.fields[i]
		if f.Name == "" {
			continue
		}
		if f.ID == Other {
			f.Name = m.Concat(f.Name)
		}
		f.Value = m.Concat(f.Value)
	}
}

// CopyTo appends all fields to dst. The strings are lent on, not copied: dst must
// not outlive what m borrowed from, unless deep asks for copies in dst's own memory.
func (m *Map) CopyTo(dst *Map, deep bool) {
	for i := range m.fields {
		f := m.fields[i]
		if f.Name == "" {
			continue
		}
		if deep {
			if f.ID == Other {
				f.Name = dst.Concat(f.Name)
			}
			f.Value = dst.Concat(f.Value)
		}
		dst.add(f.ID, f.Name, f.Value)
	}
	if m.spelled {
		m.spelling.copyTo(dst)
	}
}
