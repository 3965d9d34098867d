package route

import (
	"errors"
	"strings"

	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/header"
)

// domains finds the virtual host of a host name: exact domains before suffixes, suffixes
// before prefixes, longer ones before shorter ones, "*" last. However many there are, what
// is done for a name depends on its labels only.
type domains struct {
	exact    map[string]int32 // to the position of the virtual host
	labels   suffixes         // "*.example.com"
	values   []int32          // what the positions in the tries mean
	suffixes *trie            // "*example.com", read from the end; nil: there are none
	prefixes *trie            // "example.*"
	any      int32            // -1: there is none
}

var errTaken = errors.New("is a domain of an earlier virtual host, or given twice")

// suffixes are wildcards for whole labels, by what they begin with: a dot.
type suffixes struct {
	of      map[string]int32
	lengths []bool // which lengths there are: of a long name only some endings are looked up
}

func (s *suffixes) add(suffix string, value int32) {
	if s.of == nil {
		s.of = map[string]int32{}
	}
	s.of[suffix] = value
	if n := len(suffix) + 1; n > len(s.lengths) {
		s.lengths = append(s.lengths, make([]bool, n-len(s.lengths))...)
	}
	s.lengths[len(suffix)] = true
}

// next returns where, from i on, the next ending of host begins that is worth a look, -1 if
// there is none.
func (s *suffixes) next(host string, i int) int {
	for i = max(i, len(host)-len(s.lengths)+1); i < len(host); i++ {
		if host[i] == '.' && s.lengths[len(host)-i] {
			return i
		}
	}
	return -1
}

// find returns the value of the longest suffix of host, and its length; -1 if there is none.
func (s *suffixes) find(host string) (value int32, length int) {
	if len(s.of) == 0 {
		return -1, 0
	}
	for i := s.next(host, 1); i > 0; i = s.next(host, i+1) {
		if v, ok := s.of[host[i:]]; ok {
			return v, len(host) - i
		}
	}
	return -1, 0
}

// newDomains indexes virtual hosts. Its error names the virtual host by index.
func newDomains(hosts []Deferred) (*domains, error) {
	d := &domains{exact: make(map[string]int32, len(hosts)), any: -1}
	var suffixes, prefixes []trieKey
	wild := map[string]bool{}
	for i := range hosts {
		for j, name := range hosts[i].Domains {
			if !isLower(name) {
				name = lowerDomain(name)
			}
			_, taken := d.exact[name]
			if taken || wild[name] {
				return nil, filter.AtIndex("virtual_hosts", i, filter.AtIndex("domains", j, errTaken))
			}
			if strings.HasPrefix(name, "*") || strings.HasSuffix(name, "*") {
				wild[name] = true
			}
			switch {
			case name == "*":
				d.any = int32(i)
			case strings.HasPrefix(name, "*."):
				d.labels.add(name[1:], int32(i))
			case strings.HasPrefix(name, "*"):
				suffixes = append(suffixes, trieKey{text: reversed(name[1:]), value: int32(i)})
			case strings.HasSuffix(name, "*"):
				prefixes = append(prefixes, trieKey{text: name[:len(name)-1], value: int32(i)})
			default:
				d.exact[name] = int32(i)
			}
		}
	}
	if len(suffixes) > 0 {
		d.suffixes = newTrie(suffixes, &d.values)
		d.suffixes.turnAround()
	}
	if len(prefixes) > 0 {
		d.prefixes = newTrie(prefixes, &d.values)
	}
	return d, nil
}

// onlyAny reports whether every host is served by "*", or none at all.
func (d *domains) onlyAny() bool {
	return len(d.exact)+len(d.labels.of) == 0 && d.suffixes == nil && d.prefixes == nil
}

// find returns the position of the virtual host of a name in lower case, -1 if there is
// none. A wildcard stands for at least one byte.
func (d *domains) find(host string) int32 {
	if i, ok := d.exact[host]; ok {
		return i
	}
	best, length := d.labels.find(host)
	if t := d.suffixes; t != nil {
		for n, rest := &t.nodes[0], host; n != nil && rest != ""; n, rest = t.childBack(n, rest) {
			if n.at < n.end && len(host)-len(rest) > length {
				best = d.values[n.at]
			}
		}
	}
	if best >= 0 {
		return best
	}
	if t := d.prefixes; t != nil {
		best := int32(-1)
		for n, rest := &t.nodes[0], host; n != nil && rest != ""; n, rest = t.child(n, rest) {
			if n.at < n.end {
				best = d.values[n.at]
			}
		}
		if best >= 0 {
			return best
		}
	}
	return d.any
}

// host finds the virtual host of a request; name is what it was looked for under, "" if
// that did not matter.
func (t *Table) host(m *header.Map) (vh *VirtualHost, name string) {
	if t.domains.onlyAny() && !t.onDemand {
		return t.hosts.at(t.domains.any), ""
	}
	host := ""
	if t.hostHeader != "" {
		host = m.Get(t.hostHeader)
	} else {
		host = m.Value(header.Authority)
	}
	if host == "" {
		return nil, ""
	}
	if t.ignorePort {
		if i := portStart(host); i >= 0 {
			host = host[:i]
		}
	}
	if !isLower(host) {
		mixed := host
		host = m.Format(func(dst []byte) []byte { return appendLower(dst, mixed) })
	}
	return t.hosts.at(t.domains.find(host)), host
}

func isLower(s string) bool {
	for i := range len(s) {
		if 'A' <= s[i] && s[i] <= 'Z' {
			return false
		}
	}
	return true
}

func appendLower(dst []byte, s string) []byte {
	for i := range len(s) {
		dst = append(dst, lowerByte(s[i]))
	}
	return dst
}

func lowerDomain(d string) string { return string(appendLower(nil, d)) }
