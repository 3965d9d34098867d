package l4

import (
	"fmt"
	"strings"

	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/meta"
)

// matcher finds the filter chain of a connection, in Envoy's order and without
// back-tracking: at each level the most specific value that any chain names is
// followed, also where it leads to nothing further down. The levels, from the root:
// destination port, destination range, server name, transport protocol, application
// protocol, direct source range, source type, source range, source port.
type matcher struct {
	ports       keyed[uint16, destination]
	unspecified int // index of default_filter_chain, none if there is none
}

// none is the result of a match that fails.
const none = -1

type (
	destination = prefixes[names]
	names       = keyed[string, transports]
	transports  = keyed[string, protocols]
	protocols   = keyed[string, directs]
	directs     = prefixes[types]
	types       = keyed[SourceType, sources]
	sources     = prefixes[sourcePorts]
	sourcePorts = keyed[uint16, leaf]
)

// leaf is the index of a chain plus one.
type leaf struct{ chain int }

// keyed is one level: values by key, and the one of chains that ask nothing.
type keyed[K comparable, V any] struct {
	by  map[K]*V
	any *V
}

// at returns the values of the keys, made where there are none. The zero key asks nothing.
func (k *keyed[K, V]) at(keys ...K) []*V {
	var zero K
	if len(keys) == 0 {
		keys = []K{zero}
	}
	out := make([]*V, 0, len(keys))
	for _, key := range keys {
		if key == zero {
			if k.any == nil {
				k.any = new(V)
			}
			out = append(out, k.any)
			continue
		}
		if k.by == nil {
			k.by = map[K]*V{}
		}
		v := k.by[key]
		if v == nil {
			v = new(V)
			k.by[key] = v
		}
		out = append(out, v)
	}
	return out
}

// find returns the value of key or else the one that asks nothing, or nil.
func (k *keyed[K, V]) find(key K) *V {
	if v := k.by[key]; v != nil {
		return v
	}
	return k.any
}

// newMatcher compiles the matches of a listener's chains.
func newMatcher(chains []*Chain, hasDefault bool) (*matcher, error) {
	m := &matcher{unspecified: none}
	if hasDefault {
		m.unspecified = len(chains)
	}
	for i, c := range chains {
		if err := c.Match.check(); err != nil {
			return nil, filter.AtIndex("filter_chains", i, filter.At("filter_chain_match", err))
		}
		if other := m.add(i, &c.Match); other != none {
			return nil, filter.AtIndex("filter_chains", i, filter.At("filter_chain_match", fmt.Errorf(
				"multiple filter chains with overlapping matching rules are defined: %s and filter_chains[%d]%s match the same connections",
				describe(c), other, quoted(chains[other].Name))))
		}
	}
	return m, nil
}

func describe(c *Chain) string { return "this one" + quoted(c.Name) }

func quoted(name string) string {
	if name == "" {
		return ""
	}
	return fmt.Sprintf(" (%q)", name)
}

func (m *Match) check() error {
	for i, n := range m.ServerNames {
		if strings.Contains(n, "*") && (!strings.HasPrefix(n, "*.") || strings.Contains(n[1:], "*")) {
			return filter.AtIndex("server_names", i, fmt.Errorf("%q: partial wildcards are not supported in \"server_names\"; use an exact name or \"*.suffix\"", n))
		}
	}
	return nil
}

// serverNames returns the keys of the names: "*.example.com" is ".example.com".
func (m *Match) serverNames() []string {
	out := make([]string, len(m.ServerNames))
	for i, n := range m.ServerNames {
		out[i] = strings.ToLower(strings.TrimPrefix(n, "*"))
	}
	return out
}

// add enters chain i; it returns the index of a chain that is there already, or none.
func (m *matcher) add(i int, c *Match) int {
	var ps []*protocols
	for _, d := range m.ports.at(c.DestinationPort) {
		for _, n := range d.at(c.PrefixRanges) {
			for _, t := range n.at(c.serverNames()...) {
				ps = append(ps, t.at(c.TransportProtocol)...)
			}
		}
	}
	for _, p := range ps {
		for _, d := range p.at(c.ApplicationProtocols...) {
			for _, t := range d.at(c.DirectSourceRanges) {
				if other := addSource(t, i, c); other != none {
					return other
				}
			}
		}
	}
	return none
}

func addSource(t *types, i int, c *Match) int {
	for _, s := range t.at(c.SourceType) {
		for _, r := range s.at(c.SourceRanges) {
			for _, l := range r.at(c.SourcePorts...) {
				if l.chain != 0 && l.chain != i+1 {
					return l.chain - 1
				}
				l.chain = i + 1
			}
		}
	}
	return none
}

// find returns the index of the connection's chain, that of the default chain (one
// more than the last), or none.
func (m *matcher) find(c *meta.Conn) int {
	if d := m.ports.find(c.Local.Port()); d != nil {
		if i := m.findIn(d, c); i != none {
			return i
		}
	}
	return m.unspecified
}

func (m *matcher) findIn(d *destination, c *meta.Conn) int {
	n := d.find(c.Local.Addr())
	if n == nil {
		return none
	}
	t := findName(n, c.ServerName)
	if t == nil {
		return none
	}
	p := t.find(c.TransportProtocol)
	if p == nil {
		return none
	}
	ds := findProtocol(p, c.ALPN)
	if ds == nil {
		return none
	}
	ty := ds.find(c.Direct.Addr())
	if ty == nil {
		return none
	}
	s := findType(ty, c)
	if s == nil {
		return none
	}
	r := s.find(c.Remote.Addr())
	if r == nil {
		return none
	}
	l := r.find(c.Remote.Port())
	if l == nil {
		return none
	}
	return l.chain - 1
}

// findName tries the name, then ever shorter suffixes of it.
func findName(n *names, name string) *transports {
	if n.by == nil || name == "" {
		return n.any
	}
	if t := n.by[name]; t != nil {
		return t
	}
	for rest := name[1:]; ; {
		dot := strings.IndexByte(rest, '.')
		if dot < 0 || dot == len(rest)-1 {
			return n.any
		}
		if t := n.by[rest[dot:]]; t != nil {
			return t
		}
		rest = rest[dot+1:]
	}
}

// findProtocol takes the first protocol of the client that any chain names.
func findProtocol(p *protocols, alpn []string) *directs {
	for _, a := range alpn {
		if d := p.by[a]; d != nil {
			return d
		}
	}
	return p.any
}

// findType asks whether the connection is local only where a chain does.
func findType(t *types, c *meta.Conn) *sources {
	if t.by == nil {
		return t.any
	}
	key := External
	if c.FromSameHost() {
		key = SameIPOrLoopback
	}
	return t.find(key)
}
