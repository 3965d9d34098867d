// Package filter is the contract between the engine and its filters: the hooks, the
// stream and the connection they see, local replies and errors, and how a filter
// presents itself. It contains no filter; those are in filters/.
package filter

import (
	"fmt"
	"log/slog"

	"github.com/mecha-mesh/mecha/proxy/accesslog"
	"github.com/mecha-mesh/mecha/proxy/cluster"
	"github.com/mecha-mesh/mecha/proxy/runtime"
	"github.com/mecha-mesh/mecha/proxy/stats"
	"github.com/mecha-mesh/mecha/proxy/trace"
	"github.com/mecha-mesh/mecha/proxy/why"
)

// Slot is the index of a filter name in route tables: overrides are keyed by the
// filter's name in the chain, and names are interned once, when configuration is built.
type Slot int

// Any is a configuration message by type name, such as
// "envoy.extensions.filters.http.router.v3.Router", with its serialised bytes.
type Any struct {
	Type  string
	Value []byte
}

// Env is what a filter is built with.
type Env struct {
	Name     string // of this instance in its chain
	Slot     Slot   // where route tables keep this instance's overrides
	Stats    *stats.Store
	Parent   *stats.Scope // of the enclosing connection manager or listener: "http.ingress"
	Clusters cluster.Source
	Caches   cluster.DNSCaches             // of dynamic forward proxies
	Routes   func(name string) RouteSource // by RDS name; the subscription is the caller's
	// Extensions returns the source of a discovered configuration (ECDS).
	Extensions func(ExtensionKey) *ExtensionSource
	Logs       *accesslog.Files // where access logs are opened; nil: nowhere
	Journal    *why.Journal     // of exchanges that are over; nil: none is kept
	Tracers    trace.Source     // of spans; nil: none are made
	Log        *slog.Logger
	Node       Node
	// Outbound tells that traffic_direction of the listener is OUTBOUND: this proxy is the
	// client's.
	Outbound bool
	// BufferLimit is per_connection_buffer_limit_bytes of the listener, 0 where there is none.
	BufferLimit int
	// Scopes returns the routing scopes with a key of Parser.SRDS; the subscription is the
	// caller's.
	Scopes func(key string) ScopeSource
	// Demand asks for what is not there while a request waits; nil: nothing more comes.
	Demand Demand
	// Failing reports whether health checks of this process are to fail (admin's
	// /healthcheck/fail); nil never does.
	Failing func() bool
	// Runtime is where the keys of settings are looked up; nil has none of them.
	Runtime *runtime.Runtime
	// Shares is what filters have in common under a key; nil is nothing.
	Shares *Shares
	// Retire takes functions to call when the chain that the filter is built for has
	// gone with its last connection; see OnRetire. It may be nil.
	Retire func(f func())
}

// OnRetire registers f, which gives back what the filter holds beyond its connections,
// such as its statistics scope.
func (e Env) OnRetire(f func()) {
	if e.Retire != nil {
		e.Retire(f)
	}
}

// Node is who this proxy is, for headers and logs.
type Node struct{ ID, Cluster, Zone string }

// HTTPSpec is how an HTTP filter presents itself. C is its parsed, immutable configuration.
type HTTPSpec[C any] struct {
	Name      string // well-known name, "envoy.filters.http.fault"
	Type      string // proto name of its configuration
	RouteType string // proto name of its per-route configuration, "" if it has none
	// Upstream tells that the filter can run between the router and a host, for each attempt
	// by itself. It is then built with the name and the slot alone, has no hooks for bodies,
	// nor OnDone, and uses no method of the Engine; what it answers is no local reply.
	Upstream bool
	// Parse decodes and validates. Its error names the field path and becomes the NACK.
	Parse func(raw []byte, p *Parser) (C, error)
	// ParseRoute is Parse for RouteType; nil means Parse.
	ParseRoute func(raw []byte, p *Parser) (C, error)
	// New builds the filter once for each chain; what it returns makes one value for
	// each concurrent stream. A nil factory leaves the filter out of the path.
	New func(c C, env Env) (func() HTTP, error)
}

// NetworkSpec is how a network filter presents itself.
type NetworkSpec[C any] struct {
	Name, Type string
	Parse      func(raw []byte, p *Parser) (C, error)
	New        func(c C, env Env) (func() Network, error)
}

// ListenerSpec is how a listener filter presents itself.
type ListenerSpec[C any] struct {
	Name, Type string
	Parse      func(raw []byte, p *Parser) (C, error)
	New        func(c C, env Env) (Listener, error)
}

// Descriptor is any of the four specs.
type Descriptor interface {
	describe() entry
}

// HTTPFactory is a parsed HTTP filter configuration, ready to be built.
type HTTPFactory func(env Env) (func() HTTP, error)

// NetworkFactory is a parsed network filter configuration, ready to be built.
type NetworkFactory func(env Env) (func() Network, error)

// ListenerFactory is a parsed listener filter configuration, ready to be built.
type ListenerFactory func(env Env) (Listener, error)

type entry struct {
	name, typ, routeType string
	upstream             bool // an HTTP filter that can run behind the router
	parseHTTP            func(raw []byte, p *Parser) (HTTPFactory, error)
	parseRoute           func(raw []byte, p *Parser) (any, error)
	parseNetwork         func(raw []byte, p *Parser) (NetworkFactory, error)
	parseListener        func(raw []byte, p *Parser) (ListenerFactory, error)
	parseUDP             func(raw []byte, p *Parser) (UDPFactory, error)
}

func (s HTTPSpec[C]) describe() entry {
	parseRoute := s.ParseRoute
	if parseRoute == nil {
		parseRoute = s.Parse
	}
	return entry{
		name: s.Name, typ: s.Type, routeType: s.RouteType, upstream: s.Upstream,
		parseHTTP: func(raw []byte, p *Parser) (HTTPFactory, error) {
			c, err := s.Parse(raw, p)
			if err != nil {
				return nil, err
			}
			return func(env Env) (func() HTTP, error) { return s.New(c, env) }, nil
		},
		parseRoute: func(raw []byte, p *Parser) (any, error) { return parseRoute(raw, p) },
	}
}

func (s NetworkSpec[C]) describe() entry {
	return entry{name: s.Name, typ: s.Type, parseNetwork: func(raw []byte, p *Parser) (NetworkFactory, error) {
		c, err := s.Parse(raw, p)
		if err != nil {
			return nil, err
		}
		return func(env Env) (func() Network, error) { return s.New(c, env) }, nil
	}}
}

func (s ListenerSpec[C]) describe() entry {
	return entry{name: s.Name, typ: s.Type, parseListener: func(raw []byte, p *Parser) (ListenerFactory, error) {
		c, err := s.Parse(raw, p)
		if err != nil {
			return nil, err
		}
		return func(env Env) (Listener, error) { return s.New(c, env) }, nil
	}}
}

// PathError is a configuration error with the path of the field it is about.
type PathError struct {
	Path string // "virtual_hosts[2].routes[0].match"
	Err  error
}

func (e *PathError) Error() string { return fmt.Sprintf("%s: %v", e.Path, e.Err) }

// Unwrap returns the cause.
func (e *PathError) Unwrap() error { return e.Err }

// At puts path in front of the path of err. A nil err stays nil.
func At(path string, err error) error {
	if err == nil {
		return nil
	}
	if pe, ok := err.(*PathError); ok {
		sep := "."
		if pe.Path != "" && pe.Path[0] == '[' {
			sep = ""
		}
		return &PathError{path + sep + pe.Path, pe.Err}
	}
	return &PathError{path, err}
}

// AtIndex is At for an element of a repeated field.
func AtIndex(field string, i int, err error) error { return At(fmt.Sprintf("%s[%d]", field, i), err) }
