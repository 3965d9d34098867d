package dialogue

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/mecha-mesh/mecha/filters"
	"github.com/mecha-mesh/mecha/proxy/accesslog"
	"github.com/mecha-mesh/mecha/proxy/admin"
	"github.com/mecha-mesh/mecha/proxy/config"
	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/runtime"
	"github.com/mecha-mesh/mecha/proxy/server"
	"github.com/mecha-mesh/mecha/proxy/stats"
	"github.com/mecha-mesh/mecha/proxy/telemetry"
	"github.com/mecha-mesh/mecha/xds"
	"github.com/mecha-mesh/mecha/xds/bootstrap"
	"github.com/mecha-mesh/mecha/xds/translate"
)

// engine is mecha in this process, from the bootstrap to the sockets; only the
// command line and the admin endpoint are not there.
type engine struct {
	stats    *stats.Store
	server   *server.Server
	files    *accesslog.Files
	runtime  *runtime.Runtime
	failing  atomic.Bool
	hub      *telemetry.Hub
	sinks    *telemetry.Sinks
	endFlush func()
	stop     func() // of what configuration refers to and is not in it (xDS)
}

func startEngine(config []byte, log *slog.Logger) (*engine, error) {
	b, _, err := bootstrap.Load(bootstrap.LoadOptions{YAML: string(config)})
	if err != nil {
		return nil, err
	}
	registry, err := filter.NewRegistry(filters.All()...)
	if err != nil {
		return nil, err
	}
	settings, _, err := translate.Process(b)
	if err != nil {
		return nil, err
	}
	e := &engine{stats: stats.NewStore()}
	e.stats.SetFixedLabels(settings.Stats.Fixed)
	e.stats.SetTags(settings.Stats.Tags)
	e.stats.SetMatcher(settings.Stats.Keep)
	e.stats.SetBuckets(settings.Stats.Buckets)
	e.runtime = runtime.New(settings.Runtime, e.stats)
	e.files = accesslog.NewFiles(accesslog.FileOptions{FlushInterval: 5 * time.Millisecond, Remote: func(c any) (accesslog.Recorder, error) { return e.hub.Recorder(c) }}, nil)
	e.hub = telemetry.New(telemetry.Options{
		Stats: e.stats, Runtime: e.runtime, Node: settings.Node, Version: "test", Default: settings.Tracing, NodeMessage: settings.NodeMessage,
	})
	logger := func(string) *slog.Logger { return log }
	e.server = server.New(server.Options{
		Stats: e.stats, Log: logger, DrainTime: time.Second,
		Node:         settings.Node,
		Env:          filter.Env{Logs: e.files, Runtime: e.runtime, Tracers: e.hub, Failing: e.failing.Load},
		LocalCluster: b.GetClusterManager().GetLocalClusterName(), Locality: translate.Locality(b.GetNode().GetLocality()),
	})
	e.hub.Connect(e.server.Clusters)
	dynamic, err := xds.NewManager(xds.Options{Engine: e.server, Registry: registry, Log: log, Runtime: e.runtime, Stats: e.stats}).Load(b)
	if err != nil {
		e.close()
		return nil, err
	}
	e.server.Start()
	if err := e.flush(settings); err != nil {
		e.close()
		return nil, err
	}
	return e, e.follow(dynamic)
}

// flush sends statistics in intervals, where the bootstrap has sinks.
func (e *engine) flush(settings *config.Process) error {
	if len(settings.StatsSinks) == 0 {
		return nil
	}
	sinks, _, err := e.hub.Sinks(settings.StatsSinks)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	e.sinks, e.endFlush = sinks, cancel
	go sinks.Run(ctx, settings.StatsFlush)
	return nil
}

// follow asks for what configuration refers to, and waits until all listeners are there.
func (e *engine) follow(d *xds.Dynamic) error {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- d.Run(ctx) }()
	e.stop = func() {
		cancel()
		<-done
	}
	listening := make(chan struct{})
	e.server.WhenListening(func() { close(listening) })
	select {
	case <-listening:
		return nil
	case <-time.After(patience):
		e.close()
		return errors.New("a listener waits for what does not come")
	}
}

func (e *engine) close() {
	if e.stop != nil {
		e.stop()
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	if e.sinks != nil {
		e.endFlush()
		e.sinks.Close(ctx)
	}
	e.hub.Close(ctx)
	e.server.Close()
	_ = e.files.Close(ctx) // the logs are in a folder that the test removes
}

func (e *engine) stat(name string) string { return statOf(e.stats, name) }

// statOf is the value of a counter or gauge, "" if there is none.
func statOf(st *stats.Store, name string) string {
	sum, found := int64(0), false
	st.Each(func(m stats.Metric) {
		switch {
		case m.Name != name:
		case m.Counter != nil:
			sum, found = sum+int64(m.Counter.Value()), true
		case m.Gauge != nil:
			sum, found = sum+int64(m.Gauge.Value()), true
		}
	})
	if !found {
		return ""
	}
	return strconv.FormatInt(sum, 10)
}

func (e *engine) active(cluster string) int {
	c := e.server.Clusters.Cluster(cluster)
	if c == nil {
		return 0
	}
	return int(c.Stats().UpstreamRqActive.Value())
}

func (e *engine) post(path string) error {
	name, query, _ := strings.Cut(path, "?")
	switch name {
	case "/drain_listeners":
		e.server.Listeners.Drain(strings.Contains(query, "inboundonly"), strings.Contains(query, "graceful"), func() {})
	case "/runtime_modify":
		var pairs [][2]string
		for _, p := range admin.ParseParams(query) {
			pairs = append(pairs, [2]string{p.Key, p.Value})
		}
		return e.runtime.SetAdmin(pairs)
	case "/healthcheck/fail", "/healthcheck/ok":
		e.failing.Store(name == "/healthcheck/fail")
		e.server.Listeners.SetHealthy(name == "/healthcheck/ok")
	default:
		return fmt.Errorf("in this process there are only /drain_listeners, /healthcheck and /runtime_modify, not %s", path)
	}
	return nil
}
