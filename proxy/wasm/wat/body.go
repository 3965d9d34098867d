package wat

import (
	"slices"
	"strings"
)

// body assembles the instructions of a function, or an expression.
type body struct {
	m      *module
	locals map[string]int
	labels []string // of the blocks around, the innermost last
	out    []byte
}

// all assembles a sequence, in which plain instructions take their immediates from the
// atoms that follow them.
func (b *body) all(nodes []*node) error {
	for len(nodes) > 0 {
		n := nodes[0]
		nodes = nodes[1:]
		if n.isList {
			if err := b.one(n); err != nil {
				return err
			}
			continue
		}
		k := 0
		for k < len(nodes) && !nodes[k].isList && isImmediate(nodes[k]) {
			k++
		}
		if err := b.plain(n, nodes[:k]); err != nil {
			return err
		}
		nodes = nodes[k:]
	}
	return nil
}

func isImmediate(n *node) bool {
	return n.isName() || strings.ContainsAny(n.text[:1], "-0123456789") || strings.Contains(n.text, "=")
}

// one assembles a folded instruction: its operands come first.
func (b *body) one(n *node) error {
	switch n.head() {
	case "":
		return n.errorf("an instruction is expected")
	case "block":
		return b.block(n, 0x02)
	case "loop":
		return b.block(n, 0x03)
	case "if":
		return b.condition(n)
	}
	k := 1
	for k < len(n.list) && (!n.list[k].isList || n.list[k].head() == "type") {
		k++
	}
	if err := b.all(n.list[k:]); err != nil {
		return err
	}
	return b.plain(n.list[0], n.list[1:k])
}

// opening reads the label and the type that a block begins with.
func opening(n *node) (label string, typ byte, rest []*node) {
	rest, typ = n.list[1:], 0x40
	if len(rest) > 0 && rest[0].isName() {
		rest, label = rest[1:], rest[0].text
	}
	if len(rest) > 0 && rest[0].head() == "result" {
		typ = valueTypes[rest[0].list[1].text]
		rest = rest[1:]
	}
	return label, typ, rest
}

func (b *body) block(n *node, op byte) error {
	label, typ, rest := opening(n)
	b.labels = append(b.labels, label)
	b.out = append(b.out, op, typ)
	if err := b.all(rest); err != nil {
		return err
	}
	b.out = append(b.out, 0x0b)
	b.labels = b.labels[:len(b.labels)-1]
	return nil
}

// condition is (if $label (result t) (condition) (then ...) (else ...)).
func (b *body) condition(n *node) error {
	label, typ, rest := opening(n)
	k := slices.IndexFunc(rest, func(n *node) bool { return n.head() == "then" })
	if k < 0 {
		return n.errorf("if has no then")
	}
	if err := b.all(rest[:k]); err != nil {
		return err
	}
	b.labels = append(b.labels, label)
	b.out = append(b.out, 0x04, typ)
	if err := b.all(rest[k].list[1:]); err != nil {
		return err
	}
	if k+1 < len(rest) {
		b.out = append(b.out, 0x05)
		if err := b.all(rest[k+1].list[1:]); err != nil {
			return err
		}
	}
	b.out = append(b.out, 0x0b)
	b.labels = b.labels[:len(b.labels)-1]
	return nil
}

// plain writes one instruction.
func (b *body) plain(n *node, immediates []*node) error {
	op, ok := instructions[n.text]
	if !ok {
		return n.errorf("no such instruction: %s", n.text)
	}
	b.out = append(b.out, op.code...)
	if op.kind == memory {
		return b.address(op, immediates)
	}
	if len(immediates) != op.kind.count() {
		return n.errorf("%s has %d immediates, not %d", n.text, op.kind.count(), len(immediates))
	}
	switch op.kind {
	case none:
		return nil
	case i32, i64:
		v, err := number(immediates[0], 32+32*int(op.kind-i32))
		b.out = signed(b.out, v)
		return err
	case indirect:
		t, ok := b.m.types[immediates[0].list[1].text]
		if !ok {
			return n.errorf("no such type: %s", immediates[0].list[1].text)
		}
		b.out = append(unsigned(b.out, uint64(t)), 0)
		return nil
	}
	i, err := b.index(op.kind, immediates[0])
	b.out = unsigned(b.out, uint64(i))
	return err
}

// index is the number of something that has a name, or is numbered in the text.
func (b *body) index(k kind, n *node) (int, error) {
	if !n.isName() {
		v, err := number(n, 32)
		return int(v), err
	}
	names := b.locals
	switch k {
	case function:
		names = b.m.functions
	case global:
		names = b.m.globals
	case label:
		for i := range b.labels {
			if b.labels[len(b.labels)-1-i] == n.text {
				return i, nil
			}
		}
		return 0, n.errorf("no such label: %s", n.text)
	}
	i, ok := names[n.text]
	if !ok {
		return 0, n.errorf("no such name: %s", n.text)
	}
	return i, nil
}

func (b *body) address(op instruction, immediates []*node) error {
	var offset int64
	for _, n := range immediates {
		v, ok := strings.CutPrefix(n.text, "offset=")
		if !ok {
			return n.errorf("no such immediate: %s", n.text)
		}
		var err error
		if offset, err = number(&node{text: v, line: n.line}, 32); err != nil {
			return err
		}
	}
	b.out = unsigned(append(b.out, op.align), uint64(uint32(offset)))
	return nil
}
