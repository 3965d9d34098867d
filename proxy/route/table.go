// Package route finds the route of a request and says what it does to it. Tables are
// made from plain values, immutable, and used by all streams at once; matching
// allocates nothing, and looks only at the routes whose path can match.
//
// Sending the request is not here (filters/router), nor is the conversion from
// protobuf (filter/fromproto).
package route

import (
	"strings"

	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/filter/ratelimit"
	"github.com/mecha-mesh/mecha/proxy/header"
	"github.com/mecha-mesh/mecha/proxy/match"
	"github.com/mecha-mesh/mecha/proxy/match/tree"
)

// VirtualHost is the routes for some domains.
type VirtualHost struct {
	Name       string
	Domains    []string // "a.example", "*.example", "a.*", "*"
	Routes     []Entry  // the first that matches wins
	Tree       *Tree    // matcher, instead of Routes
	RequireTLS RequireTLS
	Metadata   map[string]map[string]any // filter_metadata; numbers are float64, as in JSON
	Limits     ratelimit.Limits          // rate_limits
	Clusters   *VirtualClusters          // virtual_clusters, nil: there are none

	list List // of Routes
}

// List is routes of which the first that matches wins, with an index if they are many.
type List struct {
	entries []Entry
	index   *index
	done    bool
}

// Tree leads from a request to a list of routes (VirtualHost.matcher).
type Tree = tree.Tree[*filter.Stream, *List]

// NewList makes a list for an action of a tree; host is the virtual host that the tree is
// going to be in.
func NewList(entries []Entry, host *VirtualHost) *List {
	l := &List{}
	l.compile(entries, host)
	return l
}

// fewRoutes are those that are looked through faster than an index is.
const fewRoutes = 4

// Entry is a route with what a request must look like to take it. It is small, since
// a table may have many thousands.
type Entry struct {
	Route    *Route
	Weighted *Weighted // instead of Route
	Match    Match
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
	Name         string
	domains      *domains
	hosts        *hosts
	ignorePort   bool
	ignoreParams bool
	onDemand     bool
	hostHeader   string
	secure       *Route   // redirects to https
	internalOnly []string // internal_only_headers
}

// Options are the switches of a table.
type Options struct {
	IgnorePort   bool   // ignore_port_in_host_matching
	IgnoreParams bool   // ignore_path_parameters_in_path_matching
	HostHeader   string // vhost_header, lower case: has the host in place of :authority
	OnDemand     bool   // vhds: a virtual host that is not here may be asked for
	// InternalOnly are headers, lower case, that requests from outside may not have.
	InternalOnly []string
}

// NewTable compiles virtual hosts, which become the table's, and may be the next one's
// too. Its error names the virtual host by index.
func NewTable(name string, list []*VirtualHost, o Options) (*Table, error) {
	all := make([]Deferred, len(list))
	for i, vh := range list {
		all[i] = Deferred{Domains: vh.Domains, Host: vh}
	}
	return NewDeferredTable(name, all, nil, o)
}

// NewDeferredTable is NewTable where some virtual hosts are made by the first request that
// needs them: make1 makes the i-th one, equal each time, and is safe for concurrent use.
func NewDeferredTable(name string, list []Deferred, make1 func(i int) *VirtualHost, o Options) (*Table, error) {
	t := &Table{Name: name, ignorePort: o.IgnorePort, ignoreParams: o.IgnoreParams, hostHeader: o.HostHeader, onDemand: o.OnDemand, internalOnly: o.InternalOnly}
	t.secure = &Route{Kind: Redirect, Redirect: &RedirectAction{Code: 301, Scheme: "https"}}
	t.secure.complete()
	var err error
	if t.domains, err = newDomains(list); err != nil {
		return nil, err
	}
	t.hosts = newHosts(list, make1)
	return t, nil
}

// Renewable reports whether a virtual host that is made again is equal in all that can be
// observed: it has no statistics, and no settings of filters, which may remember things;
// shared is how many of those all routes have in common.
func (vh *VirtualHost) Renewable(shared int) bool {
	if vh.Clusters != nil || vh.Tree != nil {
		return false
	}
	for i := range vh.Routes {
		e := &vh.Routes[i]
		all := []*Route{e.Route}
		if e.Weighted != nil {
			all = e.Weighted.routes
		}
		for _, r := range all {
			if r.Stats != nil || len(r.PerFilter) > shared {
				return false
			}
		}
	}
	return true
}

// compile makes what matching needs, once.
func (l *List) compile(entries []Entry, host *VirtualHost) {
	if l.done {
		return
	}
	l.entries, l.done = entries, true
	for i := range entries {
		entries[i].complete(host)
	}
	if len(entries) <= fewRoutes {
		return
	}
	l.index = newIndex(len(entries), func(i int) *match.Path {
		if m := &entries[i].Match; !m.Connect {
			return &m.Path
		}
		return nil
	})
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

// choose returns the route of an entry that matches.
func (e *Entry) choose(s *filter.Stream) *Route {
	if e.Weighted != nil {
		return e.Weighted.pick(s)
	}
	return e.Route
}

// Match implements filter.RouteTable.
func (t *Table) Match(s *filter.Stream) filter.Route {
	vh, host := t.host(&s.Request)
	if vh == nil {
		note(s, "has no virtual host for", host, -1, "")
		return nil
	}
	if t.insecure(vh, &s.Request) {
		note(s, "wants TLS for virtual host", vh.Name, -1, "")
		return t.secure
	}
	list := vh.routes(s)
	if list == nil {
		note(s, "finds no list of routes in virtual host", vh.Name, -1, "")
		return nil
	}
	to := t.target(s)
	i := list.match(s, &to)
	if i < 0 {
		note(s, "has no matching route in virtual host", vh.Name, -1, "")
		return nil
	}
	r := list.entries[i].choose(s)
	note(s, "takes, in virtual host", vh.Name, i, r.Name())
	return r
}

// routes are those among which the request chooses, nil if there are none.
func (vh *VirtualHost) routes(s *filter.Stream) *List {
	if vh.Tree == nil {
		return &vh.list
	}
	if list, res := vh.Tree.Find(s); res == tree.Match {
		return list
	}
	return nil
}

// match returns the place of the first entry that matches, -1 if none does.
func (l *List) match(s *filter.Stream, to *target) int {
	if l.index == nil {
		for i := range l.entries {
			if l.takes(i, s, to, false) {
				return i
			}
		}
		return -1
	}
	var c candidates
	l.index.find(to.path, &c)
	for i, proven := c.next(); i >= 0; i, proven = c.next() {
		if l.takes(i, s, to, proven) {
			return i
		}
	}
	return -1
}

// takes reports whether a request meets the conditions of an entry. Why it does not is noted,
// unless it is the path, by which most are passed over.
func (l *List) takes(i int, s *filter.Stream, to *target, proven bool) bool {
	e := &l.entries[i]
	failed := e.Match.failed(s, to, proven)
	if failed.Kind == Matched {
		return true
	}
	if failed.Kind != OnPath {
		noteRejected(s, i, e, failed)
	}
	return false
}

// insecure reports whether the virtual host wants the request to come again over TLS.
func (t *Table) insecure(vh *VirtualHost, m *header.Map) bool {
	return vh.RequireTLS != NoTLS && m.Value(header.XForwardedProto) != "https" &&
		(vh.RequireTLS == AllTLS || m.Value(header.XEnvoyInternal) != "true")
}

func (t *Table) target(s *filter.Stream) target {
	to := target{full: s.Request.Value(header.Path)}
	to.raw = match.WithoutQuery(to.full)
	to.path = to.raw
	if t.ignoreParams && strings.Contains(to.raw, ";") {
		to.path = s.Request.Format(func(dst []byte) []byte { return match.AppendWithoutParameters(dst, to.raw) })
	}
	return to
}

// InternalOnly returns the headers, lower case, that requests from outside may not have
// (internal_only_headers).
func (t *Table) InternalOnly(*filter.Stream) []string { return t.internalOnly }

// Missing returns the host of a request for which this table has no virtual host, but
// may get one that is asked for (VHDS); "" if that does not help.
func (t *Table) Missing(s *filter.Stream) (host string) {
	if !t.onDemand {
		return ""
	}
	if vh, name := t.host(&s.Request); vh == nil {
		return name
	}
	return ""
}

// Wanted implements filter.Demander.
func (t *Table) Wanted(s *filter.Stream) (w filter.Wanted, ok bool) {
	host := t.Missing(s)
	return filter.Wanted{Kind: filter.WantedHost, From: t.Name, Name: host}, host != ""
}

// Explain tells for each route of the virtual host that serves a request (of the list that
// its tree leads to), in order, the first condition that fails, until one matches or yield answers false. It is Match
// without the index: slow, and for people.
func (t *Table) Explain(s *filter.Stream, yield func(i int, e *Entry, failed Predicate) bool) (vh *VirtualHost) {
	if vh, _ = t.host(&s.Request); vh == nil {
		return nil
	}
	list := vh.routes(s)
	if list == nil {
		return vh
	}
	to := t.target(s)
	for i := range list.entries {
		e := &list.entries[i]
		failed := e.Match.failed(s, &to, false)
		if !yield(i, e, failed) || failed.Kind == Matched {
			break
		}
	}
	return vh
}
