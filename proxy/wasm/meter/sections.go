package meter

// The sections that are changed.
const (
	custom    = 0
	types     = 1
	imports   = 2
	functions = 3
	globals   = 6
	exports   = 7
	start     = 8
	elements  = 9
	bodies    = 10
)

// order is where a section stands among the others: tags are between memories and globals,
// the number of data segments before the code.
func order(id byte) int {
	switch id {
	case 13:
		return 11
	case 12:
		return 19
	}
	return 2 * int(id)
}

// rewriter is what is known of a module.
type rewriter struct {
	o        Options
	types    uint32 // how many there are
	imported uint32 // functions: the index of the new one
	globals  uint32 // how many there are: the index of the new one
	out      []byte
}

// scan counts what has indices.
func (w *rewriter) scan(r reader) {
	for r.more() {
		id := r.byte()
		s := r.sub(r.u32())
		switch id {
		case types:
			w.types = s.u32()
		case globals:
			w.globals += s.u32()
		case imports:
			for n := s.u32(); n > 0; n-- {
				s.take(int(s.u32()))
				s.take(int(s.u32()))
				switch w.external(s) {
				case 0:
					w.imported++
				case 3:
					w.globals++
				}
			}
		}
	}
}

// external skips what an import is, and returns its kind.
func (w *rewriter) external(s *reader) byte {
	kind := s.byte()
	switch kind {
	case 0:
		s.u32()
	case 1:
		valueType(s)
		limits(s)
	case 2:
		limits(s)
	case 3:
		valueType(s)
		s.byte()
	case 4:
		s.byte()
		s.u32()
	default:
		panic(malformed{s.i})
	}
	return kind
}

func limits(s *reader) {
	flags := s.byte()
	s.leb()
	if flags&1 != 0 {
		s.leb()
	}
}

// valueType skips a type: (ref null x) has more than one byte.
func valueType(s *reader) {
	if b := s.byte(); b == 0x63 || b == 0x64 {
		s.leb()
	}
}

// all writes the module.
func (w *rewriter) all(r *reader) []byte {
	w.out = append(make([]byte, 0, len(r.p)+len(r.p)/4+64), r.p[:8]...)
	needed := []byte{types, imports, globals, exports} // sections that there have to be
	for r.more() {
		id := r.byte()
		s := r.sub(r.u32())
		if id == custom {
			w.custom(s)
			continue
		}
		for len(needed) > 0 && order(needed[0]) < order(id) {
			w.section(needed[0], w.rewrite(needed[0], &reader{p: []byte{0}}))
			needed = needed[1:]
		}
		if len(needed) > 0 && needed[0] == id {
			needed = needed[1:]
		}
		w.section(id, w.rewrite(id, s))
	}
	for _, id := range needed {
		w.section(id, w.rewrite(id, &reader{p: []byte{0}}))
	}
	return w.out
}

func (w *rewriter) section(id byte, content []byte) {
	w.out = append(u32(append(w.out, id), uint32(len(content))), content...)
}

// rewrite returns the new content of a section.
func (w *rewriter) rewrite(id byte, s *reader) []byte {
	switch id {
	case types:
		return append(oneMore(s), 0x60, 0, 0)
	case imports:
		return w.imports(s)
	case globals:
		out := u32(nil, s.u32()+1)
		for s.more() {
			from := s.i
			valueType(s)
			s.byte()
			out = append(out, s.p[from:s.i]...)
			out = w.expression(out, s)
		}
		return append(out, 0x7f, 1, 0x41, 0, 0x0b)
	case exports:
		return w.exports(s)
	case start:
		return u32(nil, w.function(s.u32()))
	case elements:
		return w.elements(s)
	case bodies:
		return w.bodies(s)
	}
	return s.p
}

// oneMore copies a list, whose length it makes greater by one.
func oneMore(s *reader) []byte {
	n := s.u32()
	return append(u32(nil, n+1), s.p[s.i:]...)
}

// function is the new index of a function.
func (w *rewriter) function(i uint32) uint32 {
	if i >= w.imported {
		return i + 1
	}
	return i
}

func (w *rewriter) imports(s *reader) []byte {
	n := s.u32()
	out := u32(nil, n+1)
	for ; n > 0; n-- {
		module, field := string(s.take(int(s.u32()))), string(s.take(int(s.u32())))
		from := s.i
		if w.external(s) == 0 && w.o.Rename != nil {
			module = w.o.Rename(module, field)
		}
		out = append(name(name(out, module), field), s.p[from:s.i]...)
	}
	return u32(append(name(name(out, Module), Refill), 0), w.types)
}

func (w *rewriter) exports(s *reader) []byte {
	n := s.u32()
	out := u32(nil, n+1)
	for ; n > 0; n-- {
		out = name(out, string(s.take(int(s.u32()))))
		kind, i := s.byte(), s.u32()
		if kind == 0 {
			i = w.function(i)
		}
		out = u32(append(out, kind), i)
	}
	return u32(append(name(out, Left), 3), w.globals)
}

// elements rewrites the lists of functions in tables.
func (w *rewriter) elements(s *reader) []byte {
	n := s.u32()
	out := u32(nil, n)
	for ; n > 0; n-- {
		flags := s.u32()
		if flags > 7 {
			panic(malformed{s.i})
		}
		out = u32(out, flags)
		if flags&1 == 0 { // active
			if flags&2 != 0 {
				out = u32(out, s.u32())
			}
			out = w.expression(out, s)
		}
		if flags&3 != 0 { // it says of what kind or type
			from := s.i
			valueType(s)
			out = append(out, s.p[from:s.i]...)
		}
		count := s.u32()
		out = u32(out, count)
		for ; count > 0; count-- {
			if flags&4 != 0 {
				out = w.expression(out, s)
			} else {
				out = u32(out, w.function(s.u32()))
			}
		}
	}
	return out
}

// custom keeps the names of functions, which traces show, and drops everything else: it speaks
// of places in the code that are elsewhere now.
func (w *rewriter) custom(s *reader) {
	if string(s.take(int(s.u32()))) != "name" {
		return
	}
	content := name(nil, "name")
	for s.more() {
		id := s.byte()
		sub := s.sub(s.u32())
		if id != 1 {
			continue
		}
		n := sub.u32()
		list := u32(nil, n)
		for ; n > 0; n-- {
			list = u32(list, w.function(sub.u32()))
			list = name(list, string(sub.take(int(sub.u32()))))
		}
		content = append(u32(append(content, 1), uint32(len(list))), list...)
	}
	w.section(custom, content)
}
