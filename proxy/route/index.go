package route

import (
	"slices"
	"strings"

	"github.com/mecha-mesh/mecha/proxy/match"
)

// index tells which routes of a virtual host can match a path at all, in their order:
// the first match stays the first. It looks at what every path that matches begins
// with; what it names is a candidate whose conditions are still to be tested.
type index struct {
	lists []int32 // positions of routes times two, ascending within each span; plus one if the path is proven to match
	exact *trie   // by case-sensitive beginnings and whole paths; nil: there are none
	fold  *trie   // by those that ignore case, in lower case
	rest  span    // routes whose paths may begin with anything
}

// span is a part of index.lists.
type span struct{ at, end int32 }

// maxNested is how many literals, each the beginning of the next, the index tells
// apart. It bounds the number of lists that are merged.
const maxNested = 8

// newIndex makes the index of n routes, of which path tells the i-th one's condition on
// the path; nil: it has none.
func newIndex(n int, path func(i int) *match.Path) *index {
	x := &index{}
	var exact, fold []trieKey
	var rest []int32
	for i := range n {
		literal, kind, all := "", match.LiteralNone, false
		if p := path(i); p != nil {
			literal, kind, all = p.Literal()
		}
		k := trieKey{text: literal, value: int32(i) << 1}
		if all {
			k.value |= 1
		}
		switch kind {
		case match.LiteralExact, match.LiteralExactFold:
			k.whole = true
		case match.LiteralNone:
			rest = append(rest, k.value)
			continue
		}
		if kind == match.LiteralExactFold || kind == match.LiteralPrefixFold {
			fold = append(fold, k)
		} else {
			exact = append(exact, k)
		}
	}
	if len(exact) > 0 {
		x.exact = newTrie(flatten(exact), &x.lists)
	}
	if len(fold) > 0 {
		x.fold = newTrie(flatten(fold), &x.lists)
	}
	x.rest = span{int32(len(x.lists)), int32(len(x.lists) + len(rest))}
	x.lists = slices.Clip(append(x.lists, rest...))
	return x
}

// flatten shortens the beginnings that are nested too deeply to one that has them all.
func flatten(keys []trieKey) []trieKey {
	slices.SortFunc(keys, func(a, b trieKey) int { return strings.Compare(a.text, b.text) })
	var open []string // beginnings of the current key, each the beginning of the next
	for i := range keys {
		k := &keys[i]
		if k.whole {
			continue
		}
		for len(open) > 0 && !strings.HasPrefix(k.text, open[len(open)-1]) {
			open = open[:len(open)-1]
		}
		switch {
		case len(open) > 0 && open[len(open)-1] == k.text:
		case len(open) == maxNested:
			k.text = open[len(open)-1]
			k.value &^= 1
		default:
			open = append(open, k.text)
		}
	}
	return keys
}

// candidates yields the routes that an index names for one path. It lives on the stack.
type candidates struct {
	lists []int32
	n     int
	spans [2*(maxNested+1) + 1]span
}

// find makes c the candidates for a path.
func (x *index) find(path string, c *candidates) {
	c.lists = x.lists
	if t := x.exact; t != nil {
		for n, rest := &t.nodes[0], path; n != nil; n, rest = t.child(n, rest) {
			c.take(n, rest == "")
		}
	}
	if t := x.fold; t != nil {
		for n, rest := &t.nodes[0], path; n != nil; n, rest = t.childFold(n, rest) {
			c.take(n, rest == "")
		}
	}
	c.add(x.rest)
}

func (c *candidates) take(n *node, whole bool) {
	c.add(span{n.at, n.mid})
	if whole {
		c.add(span{n.mid, n.end})
	}
}

func (c *candidates) add(s span) {
	if s.at < s.end {
		c.spans[c.n] = s
		c.n++
	}
}

// next returns the next candidate in the order of the routes, -1 at the end. proven
// tells that its path matches.
func (c *candidates) next() (i int, proven bool) {
	if c.n == 0 {
		return -1, false
	}
	best := 0
	least := c.lists[c.spans[0].at]
	for i := 1; i < c.n; i++ {
		if v := c.lists[c.spans[i].at]; v < least {
			best, least = i, v
		}
	}
	s := &c.spans[best]
	if s.at++; s.at == s.end {
		c.n--
		c.spans[best] = c.spans[c.n]
	}
	return int(least >> 1), least&1 != 0
}
