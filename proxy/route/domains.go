package route

import (
	"errors"
	"strings"

	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/header"
)

// domains finds the virtual host of a host name: exact domains before suffixes, suffixes
// before prefixes, longer ones before shorter ones, "*" last. However many there are, a
// name is read at most three times.
type domains struct {
	exact    map[string]*VirtualHost
	list     []*VirtualHost // what the positions in the tries mean
	values   []int32
	suffixes *trie // "*.example.com", read from the end; nil: there are none
	prefixes *trie // "example.*"
	any      *VirtualHost
}

var errTaken = errors.New("is a domain of an earlier virtual host, or given twice")

// newDomains indexes virtual hosts. Its error names the virtual host by index.
func newDomains(hosts []*VirtualHost) (*domains, error) {
	d := &domains{exact: map[string]*VirtualHost{}, list: hosts}
	var suffixes, prefixes []trieKey
	seen := map[string]bool{}
	for i, vh := range hosts {
		for j, name := range vh.Domains {
			name = lowerDomain(name)
			if seen[name] {
				return nil, filter.AtIndex("virtual_hosts", i, filter.AtIndex("domains", j, errTaken))
			}
			seen[name] = true
			switch {
			case name == "*":
				d.any = vh
			case strings.HasPrefix(name, "*"):
				suffixes = append(suffixes, trieKey{text: reversed(name[1:]), value: int32(i)})
			case strings.HasSuffix(name, "*"):
				prefixes = append(prefixes, trieKey{text: name[:len(name)-1], value: int32(i)})
			default:
				d.exact[name] = vh
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
func (d *domains) onlyAny() bool { return len(d.exact) == 0 && d.suffixes == nil && d.prefixes == nil }

// find returns the virtual host of a name in lower case. A wildcard stands for at least
// one byte.
func (d *domains) find(host string) *VirtualHost {
	if vh := d.exact[host]; vh != nil {
		return vh
	}
	if t := d.suffixes; t != nil {
		best := int32(-1)
		for n, rest := &t.nodes[0], host; n != nil && rest != ""; n, rest = t.childBack(n, rest) {
			if n.at < n.end {
				best = d.values[n.at]
			}
		}
		if best >= 0 {
			return d.list[best]
		}
	}
	if t := d.prefixes; t != nil {
		best := int32(-1)
		for n, rest := &t.nodes[0], host; n != nil && rest != ""; n, rest = t.child(n, rest) {
			if n.at < n.end {
				best = d.values[n.at]
			}
		}
		if best >= 0 {
			return d.list[best]
		}
	}
	return d.any
}

// host finds the virtual host of a request; name is what it was looked for under, "" if
// that did not matter.
func (t *Table) host(m *header.Map) (vh *VirtualHost, name string) {
	if t.domains.onlyAny() && !t.onDemand {
		return t.domains.any, ""
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
	return t.domains.find(host), host
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
