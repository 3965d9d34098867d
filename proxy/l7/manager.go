// Package l7 is the HTTP engine: it takes connections from a listener, streams from
// the connection's codec, runs each through the chain of HTTP filters and writes what
// comes out. One goroutine does everything for an HTTP/1 connection; with HTTP/2 each
// stream has one, and one reads the connection.
//
// What comes in: a filter.Conn behind its transport socket. What goes out: requests
// to the terminal filter (filters/router), responses to the client, access logs.
// Routes are not here (package route), nor is anything upstream (package cluster).
package l7

import (
	"fmt"
	"log/slog"
	"sync/atomic"

	"github.com/mecha-mesh/mecha/proxy/accesslog"
	"github.com/mecha-mesh/mecha/proxy/codec/h1"
	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/stats"
)

// Manager is a running HTTP connection manager. It serves any number of connections.
type Manager struct {
	spec       *Spec
	log        *slog.Logger
	node       filter.Node
	outbound   bool
	routes     filter.RouteSource
	live       atomic.Pointer[generation]
	h1         h1.ServerOptions
	counters   *counters   // both are shared with the other managers of the same stat_prefix
	atListener *byListener // nil: there is no listener
	scope      *stats.Scope
	logs       *accesslog.Set // nil: none
}

// New builds a connection manager.
func New(spec *Spec, env filter.Env, slot func(name string) filter.Slot) (*Manager, error) {
	m := &Manager{spec: spec, log: env.Log, node: env.Node, outbound: env.Outbound}
	m.scope = env.Stats.Scope("http").Tag("envoy_http_conn_manager_prefix", spec.StatPrefix)
	env.OnRetire(m.scope.Close)
	m.count(env)
	switch {
	case spec.Routes != nil:
		m.routes = fixed{spec.Routes}
	case env.Routes != nil && spec.RDS != "":
		m.routes = env.Routes(spec.RDS)
	case spec.Scopes != nil:
		var err error
		if m.routes, err = spec.Scopes(env); err != nil {
			return nil, err
		}
	default:
		return nil, fmt.Errorf("one of route_config, rds, scoped_routes is required")
	}
	inner := env
	inner.Parent = m.scope
	if err := m.build(inner, slot); err != nil {
		return nil, err
	}
	var err error
	if m.logs, err = accesslog.OpenSet(spec.Logs, env.Logs); err != nil {
		return nil, err
	}
	env.OnRetire(m.logs.Close)
	m.h1 = spec.http1Options()
	return m, nil
}

// fixed is the route source of an inline table.
type fixed struct{ table filter.RouteTable }

func (f fixed) Current() filter.RouteTable { return f.table }
