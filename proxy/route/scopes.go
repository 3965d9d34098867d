package route

import (
	"fmt"
	"strings"
	"sync/atomic"

	"github.com/mecha-mesh/mecha/proxy/filter"
)

// Fragment is one part of the key by which a request finds its scope
// (HeaderValueExtractor).
type Fragment struct {
	Header    string // lower case
	Separator string // element_separator; "": the field is one element
	Index     int    // of the element, unless Pair is set
	Pair      string // separator of key and value: the element whose key is Key counts
	Key       string
}

// value returns the fragment of a request. Only the first field of a name counts.
func (f *Fragment) value(s *filter.Stream) (v string, ok bool) {
	v, ok = s.Request.Find(f.Header)
	if !ok {
		return "", false
	}
	for i, more := 0, true; more; i++ {
		element := v
		more = false
		if f.Separator != "" {
			element, v, more = strings.Cut(v, f.Separator)
		}
		if f.Pair == "" {
			if i == f.Index {
				return element, true
			}
			continue
		}
		if key, value, _ := strings.Cut(element, f.Pair); key == f.Key {
			return value, true
		}
	}
	return "", false
}

// KeyBuilder makes the key of a request (ScopeKeyBuilder).
type KeyBuilder []Fragment

// Key returns the key of a request, as filter.ScopeSource wants it. It is lent as long as
// the request head is.
func (b KeyBuilder) Key(s *filter.Stream) (key string, ok bool) {
	ok = len(b) > 0
	key = s.Request.Format(func(dst []byte) []byte {
		for i := range b {
			v, there := b[i].value(s)
			if !there {
				ok = false
				return dst
			}
			dst = append(append(dst, v...), 0)
		}
		return dst
	})
	return key, ok
}

// ScopeKey is the key that the fragments of a scope make.
func ScopeKey(fragments ...string) string { return strings.Join(fragments, "\x00") + "\x00" }

// Scope is a route table for the requests of one key (ScopedRouteConfiguration).
type Scope struct {
	Name   string
	Key    string // as ScopeKey makes it
	RDS    string // name of the table
	Table  *Table // instead of RDS
	Routes filter.RouteSource
	// OnDemand is on_demand: the table need not be asked for before a request comes.
	OnDemand bool
}

// ScopeSet is the scopes of one name, immutable. It implements filter.ScopeSource.
type ScopeSet struct{ by map[string]filter.RouteSource }

// NewScopeSet makes a set of scopes, whose Routes are set.
func NewScopeSet(list []Scope) (*ScopeSet, error) {
	set := &ScopeSet{by: make(map[string]filter.RouteSource, len(list))}
	names := map[string]string{}
	for _, s := range list {
		if other, taken := names[s.Key]; taken {
			return nil, fmt.Errorf("the scopes %q and %q have the same key", other, s.Name)
		}
		names[s.Key] = s.Name
		set.by[s.Key] = s.Routes
	}
	return set, nil
}

// Find implements filter.ScopeSource.
func (set *ScopeSet) Find(key string) filter.RouteSource { return set.by[key] }

// ScopeSource holds a set that is replaced while it is in use. The zero value has no
// scopes. It implements filter.ScopeSource and is safe for concurrent use.
type ScopeSource struct{ set atomic.Pointer[ScopeSet] }

// Set replaces the scopes for the requests to come.
func (s *ScopeSource) Set(set *ScopeSet) { s.set.Store(set) }

// Find implements filter.ScopeSource.
func (s *ScopeSource) Find(key string) filter.RouteSource {
	if set := s.set.Load(); set != nil {
		return set.Find(key)
	}
	return nil
}

// Scoped is the route table of a connection manager with scopes: that of the scope which a
// request belongs to. It implements filter.RouteSource and filter.RouteTable.
type Scoped struct {
	key    KeyBuilder
	scopes filter.ScopeSource
	from   string
}

// NewScoped returns a table that finds the scope by key. from is the key under which
// filter.Parser.SRDS says where the scopes come from, "" if they do not change.
func NewScoped(key KeyBuilder, scopes filter.ScopeSource, from string) *Scoped {
	return &Scoped{key, scopes, from}
}

// Current implements filter.RouteSource.
func (t *Scoped) Current() filter.RouteTable { return t }

// Match implements filter.RouteTable. A request without a scope has no route.
func (t *Scoped) Match(s *filter.Stream) filter.Route {
	if table := t.table(s); table != nil {
		return table.Match(s)
	}
	return nil
}

// InternalOnly is Table.InternalOnly of the request's table.
func (t *Scoped) InternalOnly(s *filter.Stream) []string {
	if table, ok := t.table(s).(*Table); ok {
		return table.InternalOnly(s)
	}
	return nil
}

// Wanted implements filter.Demander: the table of the request's scope, or a virtual host of
// it.
func (t *Scoped) Wanted(s *filter.Stream) (w filter.Wanted, ok bool) {
	key, ok := t.key.Key(s)
	if !ok {
		return w, false
	}
	routes := t.scopes.Find(key)
	if routes == nil {
		return w, false
	}
	table := routes.Current()
	if table == nil && t.from != "" {
		return filter.Wanted{Kind: filter.WantedScope, From: t.from, Name: key}, true
	}
	if d, can := table.(filter.Demander); can {
		return d.Wanted(s)
	}
	return w, false
}

func (t *Scoped) table(s *filter.Stream) filter.RouteTable {
	key, ok := t.key.Key(s)
	if !ok {
		return nil
	}
	routes := t.scopes.Find(key)
	if routes == nil {
		return nil
	}
	return routes.Current()
}

// Current implements filter.RouteSource: a table that never changes.
func (t *Table) Current() filter.RouteTable { return t }
