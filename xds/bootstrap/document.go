package bootstrap

import (
	"crypto/sha256"
	"encoding/binary"
	"strconv"

	"google.golang.org/protobuf/proto"
)

// A Document is one value of a parsed text, for callers that must look before
// they know which message it is, or that read several from one file. It keeps
// its file, line and path, so that what is wrong with it is reported there.
type Document struct {
	file string
	path string
	node *node
}

// Documents parses src, JSON or YAML, into its documents: one for JSON, one for
// each part between "---" lines for YAML. The error is an *Error.
func Documents(src Source) ([]Document, error) {
	nodes, err := src.tree()
	if err != nil {
		return nil, err
	}
	docs := make([]Document, len(nodes))
	for i, n := range nodes {
		docs[i] = Document{file: src.Name, node: n}
	}
	return docs, nil
}

// Line is where the value begins, from 1.
func (d Document) Line() int { return int(d.node.line) }

// Path leads from the document's root to the value; empty for the root.
func (d Document) Path() string { return d.path }

// Empty reports that there is nothing but comments and space.
func (d Document) Empty() bool { return d.node.kind == kindNull }

// Keys lists the keys of an object in file order; nil for anything else.
func (d Document) Keys() []string {
	keys := make([]string, 0, len(d.node.fields))
	for i := range d.node.fields {
		keys = append(keys, d.node.fields[i].key)
	}
	return keys
}

// Get returns what an object holds under key.
func (d Document) Get(key string) (Document, bool) {
	n := d.node.get(key)
	if n == nil {
		return Document{}, false
	}
	path := key
	if d.path != "" {
		path = d.path + "." + key
	}
	return Document{file: d.file, path: path, node: n}, true
}

// Items lists the items of a list; ok is false for anything else.
func (d Document) Items() (items []Document, ok bool) {
	for i, n := range d.node.items {
		items = append(items, Document{file: d.file, path: d.path + "[" + strconv.Itoa(i) + "]", node: n})
	}
	return items, d.node.kind == kindList
}

// Text is the text of a scalar; empty for anything else.
func (d Document) Text() string { return d.node.text }

// Describe names the kind of value for a message: "an object", "a list", number 5.
func (d Document) Describe() string { return d.node.describe() }

// Fingerprint tells values apart: those with equal ones decode to equal messages.
func (d Document) Fingerprint() [sha256.Size]byte {
	var room [4 << 10]byte
	return sha256.Sum256(d.node.print(room[:0]))
}

func (n *node) print(b []byte) []byte {
	bare := byte(0)
	if n.bare {
		bare = 1
	}
	b = append(b, byte(n.kind), bare)
	b = append(binary.AppendUvarint(b, uint64(len(n.text))), n.text...)
	b = append(binary.AppendUvarint(b, uint64(len(n.raw))), n.raw...)
	b = binary.AppendUvarint(b, uint64(len(n.items)))
	for _, item := range n.items {
		b = item.print(b)
	}
	b = binary.AppendUvarint(b, uint64(len(n.fields)))
	for i := range n.fields {
		b = append(binary.AppendUvarint(b, uint64(len(n.fields[i].key))), n.fields[i].key...)
		b = n.fields[i].val.print(b)
	}
	return b
}

// Problem makes an Error about this value.
func (d Document) Problem(text string) *Error {
	return &Error{Findings: []Finding{{File: d.file, Line: int(d.node.line), Path: d.path, Text: text}}}
}

// Decode reads the value as a message, as the function Decode does for a file;
// Options.Path is replaced by the value's own path. An object with "@type" decodes
// into an *anypb.Any.
func (d Document) Decode(into proto.Message, o Options) (Report, error) {
	proto.Reset(into)
	o.Path = d.path
	dec := newDecoder(d.file, o)
	dec.root(d.node, into)
	return dec.report, dec.err()
}
