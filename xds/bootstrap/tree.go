package bootstrap

import (
	"slices"
	"strconv"
	"strings"
)

// maxDepth bounds how deep objects and lists may nest, in files and in
// TypedStruct values. Real configurations stay below 40.
const maxDepth = 200

// kind is what a scalar or container was written as, after the rules of its
// notation: by then YAML's unquoted words have become booleans, whole numbers
// or strings the way Envoy reads them.
type kind uint8

const (
	kindNull kind = iota
	kindBool
	kindNumber
	kindString
	kindList
	kindMap
)

// A node is one value of a parsed text. Trees are never shared or changed
// after parsing.
type node struct {
	kind kind
	line int32
	// text is the value of a scalar: "true" or "false" for kindBool, a decimal
	// literal for kindNumber.
	text string
	// raw is how the scalar was written where that differs from text.
	raw string
	// bare marks text that stood without quotes in YAML.
	bare   bool
	items  []*node
	fields []member
}

// A member is one key of a kindMap node, in file order.
type member struct {
	key  string
	line int32
	val  *node
	// again marks a key that an earlier member has already used.
	again bool
}

// get returns the last member called key, or nil.
func (n *node) get(key string) *node {
	for i := len(n.fields) - 1; i >= 0; i-- {
		if n.fields[i].key == key {
			return n.fields[i].val
		}
	}
	return nil
}

// drop removes the member called key: in YAML the last one of a name counts
// alone.
func (n *node) drop(key string) {
	n.fields = slices.DeleteFunc(n.fields, func(m member) bool { return m.key == key })
}

// written is the scalar as its author typed it.
func (n *node) written() string {
	if n.raw != "" {
		return n.raw
	}
	return n.text
}

// describe names the value for an error message: number 5, "text", a list.
func (n *node) describe() string {
	switch n.kind {
	case kindNull:
		return "nothing (null)"
	case kindBool:
		return "boolean " + clip(n.written())
	case kindNumber:
		return "number " + clip(n.written())
	case kindString:
		if n.bare && isDecimal(n.text) {
			return "number " + clip(n.written())
		}
		return strconv.Quote(clip(n.text))
	case kindList:
		return "a list"
	default:
		return "an object"
	}
}

// clip keeps quoted user text short enough for one line of a log.
func clip(s string) string {
	const limit = 80
	if len(s) <= limit {
		return s
	}
	return strings.ToValidUTF8(s[:limit], "") + "..."
}
