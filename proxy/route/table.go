// Package route finds the route of a request and says what it does to it. Tables are
// compiled from a Spec, immutable, and used by all streams at once; matching
// allocates nothing.
//
// Sending the request is not here (filters/router), nor is the conversion from
// protobuf (filter/fromproto).
package route

import (
	"strings"

	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/header"
)

// VirtualHost is the routes for some domains.
type VirtualHost struct {
	Name    string
	Domains []string
	Routes  []Entry
}

// Entry is a route with what a request must look like to take it.
type Entry struct {
	Match Match
	Route *Route
}

// Match is the conditions of a route (RouteMatch). All that are set must hold.
type Match struct {
	Prefix  string
	Path    string
	Further func(s *filter.Stream, path string) bool // nil: none
}

// Table is a compiled RouteConfiguration. It implements filter.RouteTable.
type Table struct {
	Name       string
	exact      map[string]*VirtualHost
	suffixes   []wildcard // "*.example.com", the longest first
	prefixes   []wildcard // "example.*", the longest first
	any        *VirtualHost
	ignorePort bool
}

type wildcard struct {
	text string
	host *VirtualHost
}

// NewTable compiles virtual hosts.
func NewTable(name string, hosts []*VirtualHost) *Table {
	t := &Table{Name: name, exact: map[string]*VirtualHost{}}
	for _, vh := range hosts {
		for _, d := range vh.Domains {
			if d == "*" {
				t.any = vh
			} else {
				t.exact[d] = vh
			}
		}
		for i := range vh.Routes {
			vh.Routes[i].Route.VirtualHost = vh
		}
	}
	return t
}

// Match implements filter.RouteTable.
func (t *Table) Match(s *filter.Stream) filter.Route {
	vh := t.host(s.Request.Value(header.Authority))
	if vh == nil {
		return nil
	}
	full := s.Request.Value(header.Path)
	path, _, _ := strings.Cut(full, "?")
	for i := range vh.Routes {
		m := &vh.Routes[i].Match
		if m.Path != "" && m.Path != path || !strings.HasPrefix(path, m.Prefix) {
			continue
		}
		if m.Further == nil || m.Further(s, path) {
			return vh.Routes[i].Route
		}
	}
	return nil
}

func (t *Table) host(authority string) *VirtualHost {
	if vh := t.exact[authority]; vh != nil {
		return vh
	}
	return t.any
}
