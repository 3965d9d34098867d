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
	"github.com/mecha-mesh/mecha/proxy/codec/h2"
	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/stats"
	"github.com/mecha-mesh/mecha/proxy/trace"
	"github.com/mecha-mesh/mecha/proxy/why"
)

// Manager is a running HTTP connection manager. It serves any number of connections.
type Manager struct {
	spec        *Spec
	log         *slog.Logger
	node        filter.Node
	outbound    bool
	routes      filter.RouteSource
	live        atomic.Pointer[generation]
	h1          h1.ServerOptions
	h2          h2.ServerOptions
	resetLimits resetLimits
	counters    *counters   // both are shared with the other managers of the same stat_prefix
	atListener  *byListener // nil: there is no listener
	scope       *stats.Scope
	logs        *accesslog.Set // nil: none
	traces      *trace.Tracing // nil: none

	journal     *why.Journal                                // nil: nobody wants to know
	statName    func(cluster string) (name string, ok bool) // what a cluster is called in logs; false if there is none
	bufferLimit int                                         // of a response that is kept back, in bytes
}

// New builds a connection manager.
func New(spec *Spec, env filter.Env, slot func(name string) filter.Slot) (*Manager, error) {
	m := &Manager{spec: spec, log: env.Log, node: env.Node, outbound: env.Outbound, journal: env.Journal}
	m.statName = func(name string) (string, bool) {
		if env.Clusters == nil {
			return "", false
		}
		c := env.Clusters.Cluster(name)
		if c == nil {
			return "", false
		}
		return c.StatName(), true
	}
	m.scope = env.Stats.Scope("http").Tag("envoy_http_conn_manager_prefix", spec.StatPrefix)
	if m.bufferLimit = env.BufferLimit; m.bufferLimit <= 0 {
		m.bufferLimit = defaultLimit
	}
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
	if err := m.tracing(env); err != nil {
		return nil, err
	}
	http1Stats, release := stats.Shared[h1.Stats](env.Stats, "http1", "", "")
	env.OnRetire(release)
	http2Stats, release := stats.Shared[h2.Stats](env.Stats, "http2", "", "")
	env.OnRetire(release)
	m.h1, m.h2 = spec.http1Options(http1Stats), spec.http2Options(http2Stats)
	m.resetLimits = newResetLimits(env.Runtime)
	return m, nil
}

// fixed is the route source of an inline table.
type fixed struct{ table filter.RouteTable }

func (f fixed) Current() filter.RouteTable { return f.table }
