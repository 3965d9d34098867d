// Package route finds the route of a request and says what it does to it. Tables are
// made from plain values, immutable, and used by all streams at once; matching
// allocates nothing.
//
// Sending the request is not here (filters/router), nor is the conversion from
// protobuf (filter/fromproto).
package route

import (
	"cmp"
	"errors"
	"slices"
	"strings"

	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/header"
	"github.com/mecha-mesh/mecha/proxy/match"
)

// VirtualHost is the routes for some domains.
type VirtualHost struct {
	Name       string
	Domains    []string // "a.example", "*.example", "a.*", "*"
	Routes     []Entry  // the first that matches wins
	RequireTLS RequireTLS
}

// Entry is a route with what a request must look like to take it.
type Entry struct {
	Match    Match
	Route    *Route
	Weighted *Weighted // instead of Route
}

// RequireTLS is require_tls: requests that did not come over TLS are sent there.
type RequireTLS uint8

// The requirements.
const (
	NoTLS RequireTLS = iota
	ExternalTLS
	AllTLS
)

// Table is a compiled RouteConfiguration. It implements filter.RouteTable.
type Table struct {
	Name       string
	exact      map[string]*VirtualHost
	suffixes   []wildcards // "*.example.com" by length, the longest first
	prefixes   []wildcards // "example.*" by length, the longest first
	any        *VirtualHost
	ignorePort bool
	secure     *Route // redirects to https
}

// wildcards are those with the same number of bytes that are not "*".
type wildcards struct {
	length int
	hosts  map[string]*VirtualHost
}

// Options are the switches of a table.
type Options struct {
	IgnorePort bool // ignore_port_in_host_matching
}

// NewTable compiles virtual hosts, which become the table's. Its error names the
// virtual host by index.
func NewTable(name string, hosts []*VirtualHost, o Options) (*Table, error) {
	t := &Table{Name: name, exact: map[string]*VirtualHost{}, ignorePort: o.IgnorePort}
	t.secure = &Route{Kind: Redirect, Redirect: &RedirectAction{Code: 301, Scheme: "https"}}
	t.secure.complete()
	for i, vh := range hosts {
		for j, d := range vh.Domains {
			if err := t.addDomain(lowerDomain(d), vh); err != nil {
				return nil, filter.AtIndex("virtual_hosts", i, filter.AtIndex("domains", j, err))
			}
		}
		for j := range vh.Routes {
			vh.Routes[j].complete(vh)
		}
	}
	byLength := func(a, b wildcards) int { return cmp.Compare(b.length, a.length) }
	slices.SortFunc(t.suffixes, byLength)
	slices.SortFunc(t.prefixes, byLength)
	return t, nil
}

func (e *Entry) complete(vh *VirtualHost) {
	all := []*Route{e.Route}
	if e.Weighted != nil {
		all = e.Weighted.routes
	}
	for _, r := range all {
		r.VirtualHost, r.path = vh, e.Match.Path
		r.complete()
	}
}

var errTaken = errors.New("is a domain of an earlier virtual host, or given twice")

func (t *Table) addDomain(d string, vh *VirtualHost) error {
	switch {
	case d == "*":
		if t.any != nil {
			return errTaken
		}
		t.any = vh
	case strings.HasPrefix(d, "*"):
		return addWildcard(&t.suffixes, d[1:], vh)
	case strings.HasSuffix(d, "*"):
		return addWildcard(&t.prefixes, d[:len(d)-1], vh)
	default:
		if t.exact[d] != nil {
			return errTaken
		}
		t.exact[d] = vh
	}
	return nil
}

func addWildcard(list *[]wildcards, text string, vh *VirtualHost) error {
	for i := range *list {
		if w := &(*list)[i]; w.length == len(text) {
			if w.hosts[text] != nil {
				return errTaken
			}
			w.hosts[text] = vh
			return nil
		}
	}
	*list = append(*list, wildcards{len(text), map[string]*VirtualHost{text: vh}})
	return nil
}

// Match implements filter.RouteTable.
func (t *Table) Match(s *filter.Stream) filter.Route {
	vh := t.host(&s.Request)
	if vh == nil {
		return nil
	}
	if vh.RequireTLS != NoTLS && s.Request.Value(header.XForwardedProto) != "https" &&
		(vh.RequireTLS == AllTLS || s.Request.Value(header.XEnvoyInternal) != "true") {
		return t.secure
	}
	full := s.Request.Value(header.Path)
	path := match.WithoutQuery(full)
	for i := range vh.Routes {
		e := &vh.Routes[i]
		if !e.Match.matches(s, full, path) {
			continue
		}
		if e.Weighted != nil {
			return e.Weighted.pick(s)
		}
		return e.Route
	}
	return nil
}

// host finds the virtual host of a request: exact domains before suffixes, suffixes
// before prefixes, longer ones before shorter ones, "*" last.
func (t *Table) host(m *header.Map) *VirtualHost {
	if len(t.exact) == 0 && len(t.suffixes) == 0 && len(t.prefixes) == 0 {
		return t.any
	}
	host := m.Value(header.Authority)
	if host == "" {
		return nil
	}
	if t.ignorePort {
		if i := portStart(host); i >= 0 {
			host = host[:i]
		}
	}
	if !isLower(host) {
		host = m.Format(func(dst []byte) []byte { return appendLower(dst, host) })
	}
	if vh := t.exact[host]; vh != nil {
		return vh
	}
	for i := range t.suffixes {
		if n := t.suffixes[i].length; n < len(host) {
			if vh := t.suffixes[i].hosts[host[len(host)-n:]]; vh != nil {
				return vh
			}
		}
	}
	for i := range t.prefixes {
		if n := t.prefixes[i].length; n < len(host) {
			if vh := t.prefixes[i].hosts[host[:n]]; vh != nil {
				return vh
			}
		}
	}
	return t.any
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
		c := s[i]
		if 'A' <= c && c <= 'Z' {
			c += 'a' - 'A'
		}
		dst = append(dst, c)
	}
	return dst
}

func lowerDomain(d string) string { return string(appendLower(nil, d)) }
