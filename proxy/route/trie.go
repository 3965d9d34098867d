package route

import (
	"slices"
	"strings"
)

// trie finds, for a string, those of many keys that it begins with, in the time that it
// takes to read the string once. It is compressed: a node has at least two children or
// something to say. Nodes lie in one slice, children of a node side by side.
type trie struct{ nodes []node }

// node is a place between two keys. Its values are positions in a list that the trie's
// owner keeps: those from at to mid are for all strings that get here, those from mid to
// end for the one that ends here.
type node struct {
	text         string // what leads here from the parent
	kids         string // first bytes of the children's texts, in order
	first        int32  // position of the first child
	at, mid, end int32
}

// trieKey is a key with one value.
type trieKey struct {
	text  string
	whole bool // for the string that is equal to text only
	value int32
}

// newTrie builds a trie and appends the values to list. The values of a place are in
// ascending order.
func newTrie(keys []trieKey, list *[]int32) *trie {
	slices.SortFunc(keys, func(a, b trieKey) int {
		switch {
		case a.text != b.text:
			return strings.Compare(a.text, b.text)
		case a.whole != b.whole && b.whole:
			return -1
		case a.whole != b.whole:
			return 1
		}
		return int(a.value - b.value)
	})
	t := &trie{nodes: make([]node, 1)}
	t.build(0, keys, 0, list)
	t.nodes = slices.Clip(t.nodes)
	return t
}

// build completes the node at position n, whose path are the first depth bytes of all
// keys.
func (t *trie) build(n int, keys []trieKey, depth int, list *[]int32) {
	here := 0
	for here < len(keys) && len(keys[here].text) == depth {
		here++
	}
	own := &t.nodes[n]
	own.at = int32(len(*list))
	own.mid = own.at
	for _, k := range keys[:here] {
		*list = append(*list, k.value)
		if !k.whole {
			own.mid++
		}
	}
	own.end = int32(len(*list))
	keys = keys[here:]

	var kids []byte
	var groups [][]trieKey
	for len(keys) > 0 {
		c, i := keys[0].text[depth], 1
		for i < len(keys) && keys[i].text[depth] == c {
			i++
		}
		kids, groups, keys = append(kids, c), append(groups, keys[:i]), keys[i:]
	}
	own.kids, own.first = string(kids), int32(len(t.nodes))
	first := len(t.nodes)
	t.nodes = append(t.nodes, make([]node, len(groups))...)
	for i, g := range groups {
		to := commonPrefix(g[0].text, g[len(g)-1].text)
		t.nodes[first+i].text = g[0].text[depth:to]
		t.build(first+i, g, to, list)
	}
}

func commonPrefix(a, b string) int {
	n := min(len(a), len(b))
	for i := range n {
		if a[i] != b[i] {
			return i
		}
	}
	return n
}

// child returns the child of n to which rest leads, and what is left of rest.
func (t *trie) child(n *node, rest string) (*node, string) {
	if rest == "" {
		return nil, ""
	}
	i := strings.IndexByte(n.kids, rest[0])
	if i < 0 {
		return nil, ""
	}
	k := &t.nodes[int(n.first)+i]
	if !strings.HasPrefix(rest, k.text) {
		return nil, ""
	}
	return k, rest[len(k.text):]
}

// childFold is child for a trie of lower-case keys and a text in any case.
func (t *trie) childFold(n *node, rest string) (*node, string) {
	if rest == "" {
		return nil, ""
	}
	i := strings.IndexByte(n.kids, lowerByte(rest[0]))
	if i < 0 {
		return nil, ""
	}
	k := &t.nodes[int(n.first)+i]
	if len(rest) < len(k.text) {
		return nil, ""
	}
	for j := range len(k.text) {
		if lowerByte(rest[j]) != k.text[j] {
			return nil, ""
		}
	}
	return k, rest[len(k.text):]
}

// childBack is child for a trie whose keys were turned around, and a text read from its
// end.
func (t *trie) childBack(n *node, rest string) (*node, string) {
	if rest == "" {
		return nil, ""
	}
	i := strings.IndexByte(n.kids, rest[len(rest)-1])
	if i < 0 {
		return nil, ""
	}
	k := &t.nodes[int(n.first)+i]
	if !strings.HasSuffix(rest, k.text) {
		return nil, ""
	}
	return k, rest[:len(rest)-len(k.text)]
}

// turnAround makes of a trie of reversed keys one for childBack.
func (t *trie) turnAround() {
	for i := range t.nodes {
		t.nodes[i].text = reversed(t.nodes[i].text)
	}
}

func reversed(s string) string {
	b := []byte(s)
	slices.Reverse(b)
	return string(b)
}

func lowerByte(c byte) byte {
	if 'A' <= c && c <= 'Z' {
		c += 'a' - 'A'
	}
	return c
}
