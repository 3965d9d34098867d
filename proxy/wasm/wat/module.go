package wat

import (
	"encoding/binary"
	"strconv"
)

// signature is a function type, as the binary has it.
type signature string

// module collects what the sections are made of.
type module struct {
	signatures []signature
	types      map[string]int // of named types, by $name
	functions  map[string]int // index, by $name
	globals    map[string]int
	imported   int // functions
	own        []int
	importing  [][]byte
	memory     []byte
	table      []byte
	global     [][]byte
	exports    [][]byte
	elements   [][]byte
	code       [][]byte
	data       [][]byte
}

var valueTypes = map[string]byte{"i32": 0x7f, "i64": 0x7e, "f32": 0x7d, "f64": 0x7c, "funcref": 0x70}

func unsigned(dst []byte, n uint64) []byte { return binary.AppendUvarint(dst, n) }

func signed(dst []byte, n int64) []byte {
	for {
		b := byte(n & 0x7f)
		n >>= 7
		if n == 0 && b&0x40 == 0 || n == -1 && b&0x40 != 0 {
			return append(dst, b)
		}
		dst = append(dst, b|0x80)
	}
}

func text(dst []byte, s string) []byte { return append(unsigned(dst, uint64(len(s))), s...) }

// number reads an integer of the text format, of as many bits.
func number(n *node, bits int) (int64, error) {
	if v, err := strconv.ParseInt(n.text, 0, bits); err == nil {
		return v, nil
	}
	v, err := strconv.ParseUint(n.text, 0, bits)
	if err != nil {
		return 0, n.errorf("%q is no number of %d bits", n.text, bits)
	}
	if bits == 32 {
		return int64(int32(v)), nil
	}
	return int64(v), nil
}

// declare gives functions, globals and types their numbers.
func (m *module) declare(fields []*node) error {
	for _, f := range fields {
		switch f.head() {
		case "type":
			if len(f.list) != 3 {
				return f.errorf("a type is (type $name (func ...))")
			}
			s, _, err := m.signature(f.list[2].list[1:], nil)
			if err != nil {
				return err
			}
			m.types[f.list[1].text] = s
		case "import":
			if len(f.list) != 4 || f.list[3].head() != "func" {
				return f.errorf("only functions are imported")
			}
			fn := f.list[3]
			rest := m.named(fn.list[1:], m.functions, m.imported)
			s, _, err := m.signature(rest, nil)
			if err != nil {
				return err
			}
			m.imported++
			one := append(text(text(nil, f.list[1].text), f.list[2].text), 0)
			m.importing = append(m.importing, unsigned(one, uint64(s)))
		}
	}
	functions, globals := m.imported, 0
	for _, f := range fields {
		switch f.head() {
		case "func":
			m.named(f.list[1:], m.functions, functions)
			functions++
		case "global":
			m.named(f.list[1:], m.globals, globals)
			globals++
		}
	}
	return nil
}

// named notes the name that fields begin with, if they do, and returns the others.
func (m *module) named(fields []*node, in map[string]int, index int) []*node {
	if len(fields) > 0 && fields[0].isName() {
		in[fields[0].text] = index
		return fields[1:]
	}
	return fields
}

// signature reads (param ...) and (result ...), notes names of parameters, and returns what
// comes after them.
func (m *module) signature(fields []*node, locals map[string]int) (index int, rest []*node, err error) {
	var params, results []byte
	for len(fields) > 0 {
		f := fields[0]
		h := f.head()
		if h != "param" && h != "result" {
			break
		}
		for _, t := range f.list[1:] {
			if t.isName() {
				if locals != nil {
					locals[t.text] = len(params)
				}
				continue
			}
			b, ok := valueTypes[t.text]
			switch {
			case !ok:
				return 0, nil, t.errorf("no such type: %s", t.text)
			case h == "param":
				params = append(params, b)
			default:
				results = append(results, b)
			}
		}
		fields = fields[1:]
	}
	if locals != nil {
		locals[""] = len(params)
	}
	s := append(unsigned([]byte{0x60}, uint64(len(params))), params...)
	s = append(unsigned(s, uint64(len(results))), results...)
	for i, old := range m.signatures {
		if string(old) == string(s) {
			return i, fields, nil
		}
	}
	m.signatures = append(m.signatures, signature(s))
	return len(m.signatures) - 1, fields, nil
}

// export notes the exports that fields begin with, and returns the others.
func (m *module) export(fields []*node, kind byte, index int) []*node {
	for len(fields) > 0 && fields[0].head() == "export" {
		m.exports = append(m.exports, unsigned(append(text(nil, fields[0].list[1].text), kind), uint64(index)))
		fields = fields[1:]
	}
	return fields
}

// define writes what the sections hold.
func (m *module) define(fields []*node) error {
	for _, f := range fields {
		var err error
		switch h := f.head(); h {
		case "type", "import":
		case "func":
			err = m.function(f)
		case "memory":
			m.memory, err = limits(nil, m.export(f.list[1:], 2, 0))
		case "table":
			m.table, err = limits([]byte{0x70}, f.list[1:len(f.list)-1])
		case "global":
			err = m.defineGlobal(f)
		case "data":
			err = m.segment(f)
		case "elem":
			err = m.element(f)
		default:
			err = f.errorf("no such field: %q", h)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func limits(dst []byte, fields []*node) ([]byte, error) {
	if len(fields) == 0 || len(fields) > 2 {
		return nil, &strconv.NumError{Func: "limits", Num: strconv.Itoa(len(fields)), Err: strconv.ErrRange}
	}
	dst = append(dst, byte(len(fields)-1))
	for _, f := range fields {
		n, err := number(f, 32)
		if err != nil {
			return nil, err
		}
		dst = unsigned(dst, uint64(n))
	}
	return dst, nil
}

func (m *module) defineGlobal(f *node) error {
	rest := f.list[1:]
	if rest[0].isName() {
		rest = rest[1:]
	}
	rest = m.export(rest, 3, len(m.global))
	if len(rest) != 2 {
		return f.errorf("a global is (global $name type (value))")
	}
	mutable, typ := byte(0), rest[0]
	if typ.head() == "mut" {
		mutable, typ = 1, typ.list[1]
	}
	b := &body{m: m}
	if err := b.one(rest[1]); err != nil {
		return err
	}
	m.global = append(m.global, append(append([]byte{valueTypes[typ.text], mutable}, b.out...), 0x0b))
	return nil
}

func (m *module) segment(f *node) error {
	if len(f.list) < 2 {
		return f.errorf("a data segment is (data (offset) \"...\")")
	}
	b := &body{m: m}
	if err := b.one(f.list[1]); err != nil {
		return err
	}
	var all string
	for _, s := range f.list[2:] {
		all += s.text
	}
	m.data = append(m.data, text(append(append([]byte{0}, b.out...), 0x0b), all))
	return nil
}

func (m *module) element(f *node) error {
	b := &body{m: m}
	if err := b.one(f.list[1]); err != nil {
		return err
	}
	out := unsigned(append(append([]byte{0}, b.out...), 0x0b), uint64(len(f.list)-2))
	for _, n := range f.list[2:] {
		i, ok := m.functions[n.text]
		if !ok {
			return n.errorf("no such function: %s", n.text)
		}
		out = unsigned(out, uint64(i))
	}
	m.elements = append(m.elements, out)
	return nil
}

func (m *module) function(f *node) error {
	rest := f.list[1:]
	if len(rest) > 0 && rest[0].isName() {
		rest = rest[1:]
	}
	rest = m.export(rest, 0, m.imported+len(m.own))
	b := &body{m: m, locals: map[string]int{}}
	s, rest, err := m.signature(rest, b.locals)
	if err != nil {
		return err
	}
	m.own = append(m.own, s)
	var declared []byte
	next, count := b.locals[""], 0
	for len(rest) > 0 && rest[0].head() == "local" {
		for _, t := range rest[0].list[1:] {
			if t.isName() {
				b.locals[t.text] = next
				continue
			}
			declared = append(declared, 1, valueTypes[t.text])
			next++
			count++
		}
		rest = rest[1:]
	}
	if err := b.all(rest); err != nil {
		return err
	}
	code := append(unsigned(nil, uint64(count)), declared...)
	code = append(append(code, b.out...), 0x0b)
	m.code = append(m.code, append(unsigned(nil, uint64(len(code))), code...))
	return nil
}

// binary is the module, section by section.
func (m *module) binary() []byte {
	out := []byte("\x00asm\x01\x00\x00\x00")
	section := func(id byte, items [][]byte) {
		if len(items) == 0 {
			return
		}
		content := unsigned(nil, uint64(len(items)))
		for _, i := range items {
			content = append(content, i...)
		}
		out = append(unsigned(append(out, id), uint64(len(content))), content...)
	}
	var signatures, own [][]byte
	for _, s := range m.signatures {
		signatures = append(signatures, []byte(s))
	}
	for _, s := range m.own {
		own = append(own, unsigned(nil, uint64(s)))
	}
	section(1, signatures)
	section(2, m.importing)
	section(3, own)
	if m.table != nil {
		section(4, [][]byte{m.table})
	}
	if m.memory != nil {
		section(5, [][]byte{m.memory})
	}
	section(6, m.global)
	section(7, m.exports)
	section(9, m.elements)
	section(10, m.code)
	section(11, m.data)
	return out
}
