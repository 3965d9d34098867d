package wat

// kind is what immediates an instruction has.
type kind uint8

const (
	none kind = iota
	i32
	i64
	local
	global
	function
	label
	indirect
	memory
)

func (k kind) count() int {
	if k == none {
		return 0
	}
	return 1
}

type instruction struct {
	code  []byte
	kind  kind
	align byte // of memory: the natural one
}

// instructions are those that are known, by name.
var instructions = table()

func table() map[string]instruction {
	all := map[string]instruction{
		"br": {code: []byte{0x0c}, kind: label}, "br_if": {code: []byte{0x0d}, kind: label},
		"call": {code: []byte{0x10}, kind: function}, "call_indirect": {code: []byte{0x11}, kind: indirect},
		"local.get": {code: []byte{0x20}, kind: local}, "local.set": {code: []byte{0x21}, kind: local}, "local.tee": {code: []byte{0x22}, kind: local},
		"global.get": {code: []byte{0x23}, kind: global}, "global.set": {code: []byte{0x24}, kind: global},
		"i32.const": {code: []byte{0x41}, kind: i32}, "i64.const": {code: []byte{0x42}, kind: i64},
		"unreachable": {code: []byte{0x00}}, "nop": {code: []byte{0x01}}, "return": {code: []byte{0x0f}},
		"drop": {code: []byte{0x1a}}, "select": {code: []byte{0x1b}},
		"memory.size": {code: []byte{0x3f, 0}}, "memory.grow": {code: []byte{0x40, 0}},
		"memory.copy": {code: []byte{0xfc, 10, 0, 0}}, "memory.fill": {code: []byte{0xfc, 11, 0}},
	}
	accesses := []struct {
		name  string
		align byte
	}{
		{"i32.load", 2}, {"i64.load", 3}, {"f32.load", 2}, {"f64.load", 3},
		{"i32.load8_s", 0}, {"i32.load8_u", 0}, {"i32.load16_s", 1}, {"i32.load16_u", 1},
		{"i64.load8_s", 0}, {"i64.load8_u", 0}, {"i64.load16_s", 1}, {"i64.load16_u", 1}, {"i64.load32_s", 2}, {"i64.load32_u", 2},
		{"i32.store", 2}, {"i64.store", 3}, {"f32.store", 2}, {"f64.store", 3},
		{"i32.store8", 0}, {"i32.store16", 1}, {"i64.store8", 0}, {"i64.store16", 1}, {"i64.store32", 2},
	}
	for i, a := range accesses {
		all[a.name] = instruction{[]byte{0x28 + byte(i)}, memory, a.align}
	}
	compare := []string{"eqz", "eq", "ne", "lt_s", "lt_u", "gt_s", "gt_u", "le_s", "le_u", "ge_s", "ge_u"}
	compute := []string{
		"clz", "ctz", "popcnt", "add", "sub", "mul", "div_s", "div_u", "rem_s", "rem_u",
		"and", "or", "xor", "shl", "shr_s", "shr_u", "rotl", "rotr",
	}
	for i, name := range compare {
		all["i32."+name] = instruction{code: []byte{0x45 + byte(i)}}
		all["i64."+name] = instruction{code: []byte{0x50 + byte(i)}}
	}
	for i, name := range compute {
		all["i32."+name] = instruction{code: []byte{0x67 + byte(i)}}
		all["i64."+name] = instruction{code: []byte{0x79 + byte(i)}}
	}
	all["i32.wrap_i64"] = instruction{code: []byte{0xa7}}
	all["i64.extend_i32_s"] = instruction{code: []byte{0xac}}
	all["i64.extend_i32_u"] = instruction{code: []byte{0xad}}
	return all
}
