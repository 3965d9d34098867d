package meter

// bodies rewrites the functions.
func (w *rewriter) bodies(s *reader) []byte {
	n := s.u32()
	out := u32(nil, n)
	var scratch []byte
	for ; n > 0; n-- {
		body := s.sub(s.u32())
		scratch = w.body(scratch[:0], body)
		out = append(u32(out, uint32(len(scratch))), scratch...)
	}
	return out
}

func (w *rewriter) body(out []byte, s *reader) []byte {
	from := s.i
	for n := s.u32(); n > 0; n-- {
		s.u32()
		valueType(s)
	}
	out = append(out, s.p[from:s.i]...)
	if calls(*s) {
		out = w.charge(out, 1)
	}
	for s.more() {
		out = w.instruction(out, s)
	}
	return out
}

// calls reports whether the function calls others. One that does not, and has no loop, ends
// soon.
func calls(s reader) bool {
	var none rewriter
	for s.more() {
		switch s.p[s.i] {
		case 0x10, 0x11, 0x12, 0x13:
			return true
		}
		none.instruction(nil, &s)
	}
	return false
}

// charge counts down by n, and asks for more where nothing is left.
func (w *rewriter) charge(out []byte, n uint32) []byte {
	out = u32(append(out, 0x23), w.globals)       // global.get
	out = signed(append(out, 0x41), n)            // i32.const
	out = u32(append(out, 0x6b, 0x24), w.globals) // i32.sub, global.set
	out = u32(append(out, 0x23), w.globals)
	out = append(out, 0x41, 0, 0x48, 0x04, 0x40, 0x10) // i32.const 0, i32.lt_s, if, call
	return append(u32(out, w.imported), 0x0b)
}

// signed is u32 for immediates that have a sign: one bit less fits into the last byte.
func signed(dst []byte, v uint32) []byte {
	for v >= 0x40 {
		dst = append(dst, byte(v)|0x80)
		v >>= 7
	}
	return append(dst, byte(v))
}

// expression copies an initial value, to its end.
func (w *rewriter) expression(out []byte, s *reader) []byte {
	for {
		end := s.p[min(s.i, len(s.p)-1)] == 0x0b
		out = w.instruction(out, s)
		if end {
			return out
		}
	}
}

// instruction copies one instruction, with what is charged for it.
func (w *rewriter) instruction(out []byte, s *reader) []byte {
	from := s.i
	op := s.byte()
	switch op {
	case 0x10, 0x12, 0xd2: // call, return_call, ref.func
		return u32(append(out, op), w.function(s.u32()))
	case 0x03: // loop
		s.leb()
		return w.charge(append(out, s.p[from:s.i]...), 1)
	case 0x40: // memory.grow
		s.u32()
		return append(w.charge(out, costly), s.p[from:s.i]...)
	case 0xfc:
		if bulk(s) {
			out = w.charge(out, costly)
		}
	case 0xfd:
		vector(s)
	case 0xfe:
		if s.u32() == 3 {
			s.byte()
		} else {
			address(s)
		}
	default:
		immediates(op, s)
	}
	return append(out, s.p[from:s.i]...)
}

// immediates skips what follows an instruction of one byte.
func immediates(op byte, s *reader) {
	switch {
	case op == 0x02, op == 0x04, op == 0x08, op == 0x0c, op == 0x0d, // block, if, throw, br, br_if
		op >= 0x20 && op <= 0x26, op == 0x3f, op == 0x41, op == 0x42, op == 0xd0: // variables, memory.size, constants, ref.null
		s.leb()
	case op == 0x11, op == 0x13: // call_indirect, return_call_indirect
		s.leb()
		s.leb()
	case op == 0x0e: // br_table
		for n := s.u32(); n > 0; n-- {
			s.leb()
		}
		s.leb()
	case op == 0x1c: // select with types
		for n := s.u32(); n > 0; n-- {
			valueType(s)
		}
	case op == 0x1f: // try_table
		s.leb()
		for n := s.u32(); n > 0; n-- {
			if s.byte() < 2 {
				s.leb()
			}
			s.leb()
		}
	case op >= 0x28 && op <= 0x3e:
		address(s)
	case op == 0x43:
		s.take(4)
	case op == 0x44:
		s.take(8)
	case op == 0x00, op == 0x01, op == 0x05, op == 0x0a, op == 0x0b, op == 0x0f, op == 0x1a, op == 0x1b,
		op >= 0x45 && op <= 0xc4, op == 0xd1:
	default:
		panic(malformed{s.i - 1})
	}
}

// address skips alignment and offset.
func address(s *reader) {
	if s.u32()&0x40 != 0 {
		s.leb()
	}
	s.leb()
}

// bulk skips an instruction with the prefix 0xfc, and reports whether it may take long.
func bulk(s *reader) bool {
	switch op := s.u32(); op {
	case 0, 1, 2, 3, 4, 5, 6, 7:
		return false
	case 9, 13, 16: // data.drop, elem.drop, table.size
		s.leb()
		return false
	case 8, 10, 12, 14: // memory.init, memory.copy, table.init, table.copy
		s.leb()
		s.leb()
	case 11, 15, 17: // memory.fill, table.grow, table.fill
		s.leb()
	default:
		panic(malformed{s.i})
	}
	return true
}

// vector skips an instruction with the prefix 0xfd.
func vector(s *reader) {
	switch op := s.u32(); {
	case op <= 11, op == 92, op == 93:
		address(s)
	case op == 12, op == 13:
		s.take(16)
	case op >= 21 && op <= 34:
		s.byte()
	case op >= 84 && op <= 91:
		address(s)
		s.byte()
	}
}
