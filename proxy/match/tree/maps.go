package tree

import (
	"net/netip"
	"slices"
	"strings"
)

// Exact leads by the value itself (exact_match_map).
type Exact[C, A any] struct {
	Input Input[C]
	By    map[string]*On[C, A]
	None  *On[C, A]
}

func (m *Exact[C, A]) find(r *run[C, A]) (A, Result) {
	v := m.Input(r.c, &r.scratch)
	switch v.State {
	case Pending:
		var zero A
		return zero, Unavailable
	case Present:
		if a, res := r.follow(m.By[v.Text]); res != NoMatch {
			return a, res
		}
	}
	return r.follow(m.None)
}

// Prefix leads by the longest prefix of the value (prefix_match_map); where that leads
// nowhere, by the next shorter one.
type Prefix[C, A any] struct {
	Input Input[C]
	None  *On[C, A]
	root  prefixNode[C, A]
}

// prefixNode is a node of a radix tree. The edges of its children begin with
// different bytes, and they are sorted by them.
type prefixNode[C, A any] struct {
	edge string
	on   *On[C, A]
	next []*prefixNode[C, A]
}

// NewPrefix returns a Prefix over by.
func NewPrefix[C, A any](in Input[C], by map[string]*On[C, A], none *On[C, A]) *Prefix[C, A] {
	m := &Prefix[C, A]{Input: in, None: none}
	for key, on := range by {
		m.root.add(key, on)
	}
	return m
}

func (n *prefixNode[C, A]) add(key string, on *On[C, A]) {
	if key == "" {
		n.on = on
		return
	}
	i, found := n.child(key[0])
	if !found {
		n.next = slices.Insert(n.next, i, &prefixNode[C, A]{edge: key, on: on})
		return
	}
	c := n.next[i]
	same := 0
	for same < len(key) && same < len(c.edge) && key[same] == c.edge[same] {
		same++
	}
	if same < len(c.edge) { // the edge forks
		upper := &prefixNode[C, A]{edge: c.edge[:same], next: []*prefixNode[C, A]{c}}
		c.edge = c.edge[same:]
		n.next[i], c = upper, upper
	}
	c.add(key[same:], on)
}

func (n *prefixNode[C, A]) child(first byte) (int, bool) {
	return slices.BinarySearchFunc(n.next, first, func(c *prefixNode[C, A], b byte) int { return int(c.edge[0]) - int(b) })
}

// find looks below n first: longer prefixes come before shorter ones.
func (n *prefixNode[C, A]) find(r *run[C, A], rest string) (A, Result) {
	if rest != "" {
		if i, found := n.child(rest[0]); found && strings.HasPrefix(rest, n.next[i].edge) {
			if a, res := n.next[i].find(r, rest[len(n.next[i].edge):]); res != NoMatch {
				return a, res
			}
		}
	}
	return r.follow(n.on)
}

func (m *Prefix[C, A]) find(r *run[C, A]) (A, Result) {
	v := m.Input(r.c, &r.scratch)
	switch v.State {
	case Pending:
		var zero A
		return zero, Unavailable
	case Present:
		if a, res := m.root.find(r, v.Text); res != NoMatch {
			return a, res
		}
	}
	return r.follow(m.None)
}

// Ranges leads by the longest range that the value, an address, is in
// (xds.type.matcher.v3.IPMatcher); where that leads nowhere, by the next shorter one
// that is not exclusive. Of equal ranges the first that was added comes first.
type Ranges[C, A any] struct {
	Input  Input[C]
	None   *On[C, A]
	v4, v6 []rangeSet[C, A] // the longest first
}

// rangeSet is all ranges of one length.
type rangeSet[C, A any] struct {
	bits int
	by   map[netip.Addr][]rangeOn[C, A]
}

type rangeOn[C, A any] struct {
	on        *On[C, A]
	exclusive bool
}

// Add adds a range.
func (m *Ranges[C, A]) Add(p netip.Prefix, exclusive bool, on *On[C, A]) {
	family := &m.v6
	if p.Addr().Is4() {
		family = &m.v4
	}
	i, found := slices.BinarySearchFunc(*family, p.Bits(), func(s rangeSet[C, A], bits int) int { return bits - s.bits })
	if !found {
		*family = slices.Insert(*family, i, rangeSet[C, A]{p.Bits(), map[netip.Addr][]rangeOn[C, A]{}})
	}
	by := (*family)[i].by
	a := p.Masked().Addr()
	by[a] = append(by[a], rangeOn[C, A]{on, exclusive})
}

func (m *Ranges[C, A]) find(r *run[C, A]) (A, Result) {
	v := m.Input(r.c, &r.scratch)
	if v.State == Pending {
		var zero A
		return zero, Unavailable
	}
	if addr, ok := v.addr(); ok {
		if a, res := m.findAddr(r, addr); res != NoMatch {
			return a, res
		}
	}
	return r.follow(m.None)
}

func (m *Ranges[C, A]) findAddr(r *run[C, A], addr netip.Addr) (a A, res Result) {
	family := m.v6
	if addr.Is4() {
		family = m.v4
	}
	first := true
	for i := range family {
		p, err := addr.Prefix(family[i].bits)
		if err != nil {
			continue
		}
		for _, on := range family[i].by[p.Addr()] {
			if on.exclusive && !first {
				continue
			}
			first = false
			if a, res := r.follow(on.on); res != NoMatch {
				return a, res
			}
		}
	}
	return a, NoMatch
}

// addr is the address that a value says.
func (v Value) addr() (netip.Addr, bool) {
	if v.Addr.IsValid() {
		return v.Addr.WithZone(""), true
	}
	if v.State != Present {
		return netip.Addr{}, false
	}
	a, ok := parseAddr(v.Text)
	return a.WithZone(""), ok
}

// parseAddr is netip.ParseAddr; what cannot be an address costs no error value.
func parseAddr(s string) (netip.Addr, bool) {
	if len(s) < 2 || len(s) > 64 || strings.IndexByte(s, '.') < 0 && strings.IndexByte(s, ':') < 0 {
		return netip.Addr{}, false
	}
	a, err := netip.ParseAddr(s)
	return a, err == nil
}

// Names leads by a domain name (xds.type.matcher.v3.ServerNameMatcher): the name
// itself, else the longest "*.suffix", else "*". Where one leads nowhere, the next one
// is tried.
type Names[C, A any] struct {
	Input Input[C]
	None  *On[C, A]
	// By has the names as they are configured, those with a wildcard included.
	By map[string]*On[C, A]

	suffix map[string]*On[C, A] // "*.example.com" is "example.com"
}

// NewNames returns a Names over by.
func NewNames[C, A any](in Input[C], by map[string]*On[C, A], none *On[C, A]) *Names[C, A] {
	m := &Names[C, A]{Input: in, None: none, By: by, suffix: map[string]*On[C, A]{}}
	for name, on := range by {
		if s, ok := strings.CutPrefix(name, "*."); ok {
			m.suffix[s] = on
		}
	}
	return m
}

func (m *Names[C, A]) find(r *run[C, A]) (A, Result) {
	v := m.Input(r.c, &r.scratch)
	switch {
	case v.State == Pending:
		var zero A
		return zero, Unavailable
	case v.State == Present && v.Text != "":
		if a, res := m.findName(r, v.Text); res != NoMatch {
			return a, res
		}
	}
	return r.follow(m.None)
}

func (m *Names[C, A]) findName(r *run[C, A], name string) (A, Result) {
	if !strings.HasPrefix(name, "*") { // nothing that is configured with a wildcard is a name
		if a, res := r.follow(m.By[name]); res != NoMatch {
			return a, res
		}
	}
	for rest := name; ; {
		dot := strings.IndexByte(rest, '.')
		if dot < 0 {
			break
		}
		rest = rest[dot+1:]
		if a, res := r.follow(m.suffix[rest]); res != NoMatch {
			return a, res
		}
	}
	return r.follow(m.By["*"])
}
