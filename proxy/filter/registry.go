package filter

import (
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/mecha-mesh/mecha/proxy/runtime"
	"github.com/mecha-mesh/mecha/proxy/stats"
)

// Registry is the list of all filters that configuration may name, and the names
// that chains gave them.
type Registry struct {
	byType map[string]entry
	names  []string // well-known names, in the order of the list
	all    []entry  // in the order of the list

	mu    sync.Mutex
	slots map[string]Slot
}

// NewRegistry makes a registry of the given specs. A name or type that appears
// twice is an error.
func NewRegistry(all ...Descriptor) (*Registry, error) {
	r := &Registry{byType: map[string]entry{}, slots: map[string]Slot{}}
	seen := map[string]bool{}
	for _, d := range all {
		e := d.describe()
		if seen[e.name] {
			return nil, fmt.Errorf("filter: the name %q is taken twice", e.name)
		}
		seen[e.name] = true
		r.names, r.all = append(r.names, e.name), append(r.all, e)
		if _, dup := r.byType[e.typ]; dup {
			return nil, fmt.Errorf("filter: the type %q is taken twice", e.typ)
		}
		r.byType[e.typ] = e
		if e.routeType != "" && e.routeType != e.typ {
			if _, dup := r.byType[e.routeType]; dup {
				return nil, fmt.Errorf("filter: the type %q is taken twice", e.routeType)
			}
			r.byType[e.routeType] = entry{name: e.name, typ: e.routeType, parseRoute: e.parseRoute}
		}
	}
	return r, nil
}

// Names returns the well-known names of all filters.
func (r *Registry) Names() []string { return r.names }

// Description is a filter as control planes are told of it (core.v3.Extension).
type Description struct {
	Name, Category string
	Types          []string
}

// Extensions returns all filters, in the order of the list.
func (r *Registry) Extensions() (out []Description) {
	for _, e := range r.all {
		x := Description{Name: e.name, Types: []string{e.typ}}
		switch {
		case e.parseHTTP != nil:
			x.Category = "envoy.filters.http"
		case e.parseNetwork != nil:
			x.Category = "envoy.filters.network"
		default:
			x.Category = "envoy.filters.listener"
		}
		if e.routeType != "" && e.routeType != e.typ {
			x.Types = append(x.Types, e.routeType)
		}
		out = append(out, x)
	}
	return out
}

// Slot returns the slot of a filter name, a new one for a name not seen before.
func (r *Registry) Slot(name string) Slot {
	r.mu.Lock()
	defer r.mu.Unlock()
	s, ok := r.slots[name]
	if !ok {
		s = Slot(len(r.slots))
		r.slots[name] = s
	}
	return s
}

// Parser is what Parse functions are given besides the bytes: the way to nested
// configuration. It serves the parsing of one resource, on one goroutine.
type Parser struct {
	Registry *Registry
	// Routes compiles an inline RouteConfiguration (serialised proto).
	Routes func(raw []byte, p *Parser) (RouteTable, error)
	// RDS collects the names of route configurations that the resource refers to.
	RDS []string
	// RDSFrom says where those come from, and how long they are waited for.
	RDSFrom map[string]ConfigSource
	// Extensions collects the references to configurations that come over ECDS.
	Extensions []Extension
	// SRDS says where the routing scopes come from that the resource refers to, by the key
	// under which Env.Scopes has them.
	SRDS map[string]ScopesFrom
	// ODCDS collects the sources of on-demand clusters that the resource refers to.
	ODCDS []ConfigSource
	// Secrets are where secrets by name come from; nil has none, and they are refused.
	Secrets Secrets
	// Runtime is where the keys of settings are looked up by what is built without an
	// Env, such as route tables; nil has none of them.
	Runtime *runtime.Runtime
	// Stats is where what is built without an Env counts; nil is nowhere.
	Stats *stats.Store
	// HasCluster tells whether there is a cluster, for validate_clusters; nil: not known.
	HasCluster func(name string) bool
	// Warnings collects what was accepted but has no effect, with paths.
	Warnings []string
}

// ConfigSource is envoy.config.core.v3.ConfigSource as far as it is used: ADS unless
// Path or API is set.
type ConfigSource struct {
	Path    string // of a file (path_config_source)
	Watched string // watched_directory
	// API is api_config_source: a serialised ApiConfigSource, for package xds to read.
	API string
	// StatPrefix is that of who asks first, for the statistics of the subscription.
	StatPrefix string
	// Timeout is initial_fetch_timeout; 0 is none.
	Timeout time.Duration
}

// ScopesFrom is where routing scopes come from, and the route tables that they name.
type ScopesFrom struct {
	Name           string // scoped_routes.name
	Scopes, Routes ConfigSource
}

// Key tells scopes of the same name but from other sources apart.
func (f ScopesFrom) Key() string {
	return strings.Join([]string{f.Name, f.Scopes.Path, f.Scopes.API, f.Routes.Path, f.Routes.API}, "\x00")
}

// ErrUnknownType is a configuration type for which there is no filter of that kind.
type ErrUnknownType struct{ Kind, Type string }

func (e *ErrUnknownType) Error() string {
	return fmt.Sprintf("no %s filter for the type %q in this build", e.Kind, e.Type)
}

// HTTP parses the configuration of an HTTP filter.
func (p *Parser) HTTP(c Any) (HTTPFactory, error) {
	e, ok := p.Registry.byType[c.Type]
	if !ok || e.parseHTTP == nil {
		return nil, &ErrUnknownType{"HTTP", c.Type}
	}
	return e.parseHTTP(c.Value, p)
}

// Override parses a per-route configuration; what it returns goes into the route's slot.
func (p *Parser) Override(c Any) (any, error) {
	e, ok := p.Registry.byType[c.Type]
	if !ok || e.parseRoute == nil || e.routeType == "" && e.parseHTTP != nil {
		return nil, &ErrUnknownType{"per-route HTTP", c.Type}
	}
	return e.parseRoute(c.Value, p)
}

// Network parses the configuration of a network filter.
func (p *Parser) Network(c Any) (NetworkFactory, error) {
	e, ok := p.Registry.byType[c.Type]
	if !ok || e.parseNetwork == nil {
		return nil, &ErrUnknownType{"network", c.Type}
	}
	return e.parseNetwork(c.Value, p)
}

// Listener parses the configuration of a listener filter.
func (p *Parser) Listener(c Any) (ListenerFactory, error) {
	e, ok := p.Registry.byType[c.Type]
	if !ok || e.parseListener == nil {
		return nil, &ErrUnknownType{"listener", c.Type}
	}
	return e.parseListener(c.Value, p)
}
