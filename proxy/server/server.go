// Package server builds the running proxy from specs and owns how long its parts live:
// clusters, route tables, listeners that wait for their routes, draining, shutdown.
//
// What comes in: specs, one resource at a time (xds.Engine). Where they come from is in
// package xds; what connections do is in packages l4 and l7.
package server

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/mecha-mesh/mecha/proxy/cluster"
	"github.com/mecha-mesh/mecha/proxy/cluster/dns"
	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/l4"
	"github.com/mecha-mesh/mecha/proxy/meta"
	"github.com/mecha-mesh/mecha/proxy/netio"
	"github.com/mecha-mesh/mecha/proxy/stats"
)

// Options are what a server is made with. Stats and Log are required.
type Options struct {
	Stats *stats.Store
	// Log returns the logger of a component ("main", "http", "upstream" ...).
	Log func(component string) *slog.Logger
	// Node is who this proxy is.
	Node filter.Node
	// DrainTime is how long connections of a removed listener may go on (--drain-time-s).
	DrainTime time.Duration
	// Gradual is --drain-strategy gradual.
	Gradual bool
	// MaxConnections limits all listeners together; 0 leaves it to the runtime.
	MaxConnections int64
	// Parked, if not nil, is called whenever an idle connection was parked.
	Parked func()
	// ClusterBuilt, if not nil, is called whenever a cluster is used for the first time; see
	// cluster.Options.Built.
	ClusterBuilt func()
	// Verify makes a server that only finds out whether its configuration works: it opens
	// no socket and looks up no name.
	Verify bool
	// UpstreamBind is where connections come from whose cluster says nothing else; nil is
	// none. Its mark is that of lookups of names, too.
	UpstreamBind *cluster.Bind
	// Resolver is how names are looked up for clusters that say nothing else.
	Resolver dns.Options
	// LocalCluster is the cluster that this proxy belongs to, and Locality where it is, for
	// zone aware routing.
	LocalCluster string
	Locality     cluster.LocalityName
	// OutlierLog takes a line for each ejection of a host and for its end; nil: nobody
	// wants them.
	OutlierLog func(line []byte)
	// HealthLog opens files of the event log of health checks; see cluster.Options.
	HealthLog func(path string) (write func(line []byte), shut func(), err error)
	// Env is the part of what filters are built with that only the process knows.
	Env filter.Env
}

// Server is the running proxy.
type Server struct {
	log       *slog.Logger
	Clusters  *cluster.Manager
	Listeners *l4.Manager
	start     time.Time

	drainTime time.Duration
	failed    func(spec *l4.Spec, err error) // see OnListenerError

	mu     sync.Mutex
	routes map[string]*routeSource
	scopes map[string]*scopes // by the key of filter.Parser.SRDS
	demand demand
	uses   map[string]Needs // of the listeners in use, by listener

	extensions map[filter.ExtensionKey]*extension

	waiting map[string]*waiting // listeners that wait for route tables, by name
	failing map[string]*waiting // listeners that could not be used, while that is told
	warm    []func()            // called when no cluster warms any more
	settled []func()            // called when no listener waits any more
}

// New returns a server without clusters and listeners. It accepts nothing before Start.
func New(o Options) *Server {
	s := &Server{
		log: o.Log("main"), start: time.Now(),
		routes: map[string]*routeSource{}, scopes: map[string]*scopes{}, uses: map[string]Needs{}, extensions: map[filter.ExtensionKey]*extension{}, waiting: map[string]*waiting{}, failing: map[string]*waiting{},
		drainTime: o.DrainTime,
	}
	upstream := cluster.Options{Stats: o.Stats, Log: o.Log("upstream"), Ready: s.clusterReady, Idle: s.clusterIdle, Built: o.ClusterBuilt, Bind: o.UpstreamBind, DNS: o.Resolver}
	upstream.Runtime, upstream.LocalCluster, upstream.Locality = o.Env.Runtime, o.LocalCluster, o.Locality
	upstream.OutlierLog, upstream.HealthLog = o.OutlierLog, o.HealthLog
	if o.Verify {
		upstream.Resolver = noNames{}
	}
	upstream.Internal = func(ctx context.Context, to meta.Addr, with meta.Passed) (*netio.Conn, error) {
		return s.Listeners.DialInternal(ctx, to, with)
	}
	s.Clusters = cluster.NewManager(upstream)
	s.demand.wants, s.demand.present = map[filter.Wanted]*want{}, s.there
	o.Stats.Scope("on_demand").Bind(&s.demand.counters)
	env := o.Env
	env.Shares = filter.NewShares()
	env.Stats, env.Log, env.Node = o.Stats, o.Log("filter"), o.Node
	env.Clusters, env.Routes, env.Extensions, env.Scopes = s.Clusters, s.routeSource, s.extension, s.scopeSource
	env.Caches, env.Demand = s.Clusters, &s.demand
	s.Listeners = l4.NewManager(l4.Options{
		Env: env, DrainTime: o.DrainTime, Gradual: o.Gradual, MaxConnections: o.MaxConnections, NoSockets: o.Verify,
		Parked: o.Parked,
	})
	return s
}

// noNames is the resolver of a server that verifies: every name exists, without addresses.
type noNames struct{}

func (noNames) Lookup(context.Context, string, dns.Want) (dns.Answer, error) {
	return dns.Answer{}, nil
}

// Start lets the listeners accept connections.
func (s *Server) Start() { s.Listeners.Start() }

// Uptime is how long ago the server was made.
func (s *Server) Uptime() time.Duration { return time.Since(s.start) }

// SetCluster implements xds.Engine.
func (s *Server) SetCluster(spec *cluster.Spec) error { return s.Clusters.Set(spec) }

// RemoveCluster implements xds.Engine.
func (s *Server) RemoveCluster(name string) {
	s.Clusters.Remove(name)
	s.clusterReady(name) // one less to wait for
}

// ClusterWarming implements xds.Engine.
func (s *Server) ClusterWarming(name string) bool { return s.Clusters.IsWarming(name) }

// SetAssignment implements xds.Engine.
func (s *Server) SetAssignment(a *cluster.Assignment) error { return s.Clusters.SetAssignment(a) }

// NoAssignment implements xds.Engine.
func (s *Server) NoAssignment(service string, late bool) { s.Clusters.NoAssignment(service, late) }

// WhenWarm implements xds.Engine.
func (s *Server) WhenWarm(f func()) {
	s.mu.Lock()
	s.warm = append(s.warm, f)
	s.mu.Unlock()
	s.clusterReady("")
}

// clusterReady runs what waits for all clusters.
func (s *Server) clusterReady(name string) {
	s.clusterArrived(name)
	if s.Clusters.Warming() > 0 {
		return
	}
	s.mu.Lock()
	todo := s.warm
	s.warm = nil
	s.mu.Unlock()
	for _, f := range todo {
		f()
	}
}

// Close ends everything at once.
func (s *Server) Close() {
	s.Listeners.Close()
	s.Clusters.Close()
}
