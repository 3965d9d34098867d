package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"sync/atomic"
	"time"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"

	"github.com/mecha-mesh/mecha/filters"
	"github.com/mecha-mesh/mecha/proxy/accesslog"
	"github.com/mecha-mesh/mecha/proxy/admin"
	"github.com/mecha-mesh/mecha/proxy/applog"
	"github.com/mecha-mesh/mecha/proxy/config"
	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/runtime"
	"github.com/mecha-mesh/mecha/proxy/server"
	"github.com/mecha-mesh/mecha/proxy/stats"
	"github.com/mecha-mesh/mecha/proxy/telemetry"
	"github.com/mecha-mesh/mecha/proxy/why"
	"github.com/mecha-mesh/mecha/xds"
	"github.com/mecha-mesh/mecha/xds/bootstrap"
	"github.com/mecha-mesh/mecha/xds/translate"
)

// runProxy is the data plane from the bootstrap to the last connection. It returns
// nil after SIGTERM, SIGINT or /quitquitquit.
func runProxy(ctx context.Context, o Options) error {
	b, report, err := loadBootstrap(o)
	if err != nil {
		return err
	}
	if err := checkLogConfig(b, o); err != nil {
		return err
	}
	log, err := newLog(o)
	if err != nil {
		return err
	}
	if err := applyLogConfig(log, b, o); err != nil {
		return err
	}
	// A mistake in the last listener must not let the first one open its port.
	if err := verifyEngine(b, o); err != nil {
		return err
	}
	if _, err := o.DNS.check(); err != nil {
		return err
	}
	logStart(log, o, report)
	tuneRuntime(o)

	adm, err := listenAdmin(b)
	if err != nil {
		return inFile(o, err)
	}
	if adm != nil {
		defer adm.Close()
	}
	p, err := newProxy(b, o, log.Logger, false)
	if err != nil {
		return inFile(o, err)
	}
	defer p.close()
	p.unknown = report.UnknownFields
	if o.Mode == ModeInitOnly {
		return nil
	}
	names, err := listenDNS(o.DNS, p.stats, log.Logger("dns"))
	if err != nil {
		return err
	}
	if names != nil {
		defer names.Close() //nolint:errcheck // of sockets that nobody else has
	}
	reopen := func() error {
		p.logs.Reopen()
		return log.Reopen()
	}
	ctx, stop := watchSignals(ctx, log.Logger("main"), reopen)
	defer stop()
	return p.serve(ctx, b, o, log, adm, reopen)
}

// inFile says which configuration an error is about.
func inFile(o Options, err error) error {
	name := o.ConfigPath
	if name == "" {
		name = bootstrap.InlineName
	}
	return fmt.Errorf("%s: %w", name, err)
}

// verifyEngine builds what a bootstrap describes, without opening a socket, and says
// what is wrong with it.
func verifyEngine(b *bootstrapv3.Bootstrap, o Options) error {
	if a := b.GetAdmin().GetAddress(); a != nil {
		if _, err := adminAddress(a); err != nil {
			return inFile(o, filter.At("admin.address", err))
		}
	}
	silent := slog.New(slog.DiscardHandler)
	p, err := newProxy(b, o, func(string) *slog.Logger { return silent }, true)
	if err != nil {
		return inFile(o, err)
	}
	p.close()
	return nil
}

// proxy is the engine and what configures it.
type proxy struct {
	stats     *stats.Store
	logs      *accesslog.Files
	telemetry *telemetry.Hub
	sinks     *telemetry.Sinks // nil until there are clusters
	server    *server.Server
	manager   *xds.Manager
	dynamic   *xds.Dynamic
	process   processStats
	failing   atomic.Bool // admin's /healthcheck/fail
	began     time.Time
	unknown   int // fields of the bootstrap that nobody knows

	settings *config.Process
	runtime  *runtime.Runtime
	garbage  garbage
	journal  *why.Journal // nil: none
}

// maxJournal bounds --why-records: one takes a kilobyte or two.
const maxJournal = 100_000

// newProxy builds everything that a bootstrap describes. Listeners are bound, unless
// verify is set, and accept nothing yet.
func newProxy(b *bootstrapv3.Bootstrap, o Options, log func(component string) *slog.Logger, verify bool) (*proxy, error) {
	registry, err := filter.NewRegistry(filters.All()...)
	if err != nil {
		return nil, err
	}
	if err := markUpstream(b); err != nil {
		return nil, err
	}
	bind, err := translate.UpstreamBind(b)
	if err != nil {
		return nil, err
	}
	resolver, err := translate.Resolver(b)
	if err != nil {
		return nil, err
	}
	settings, warnings, err := translate.Process(b)
	if err != nil {
		return nil, err
	}
	for _, w := range warnings {
		log("config").Warn("configuration without effect", "resource", "bootstrap", "detail", w)
	}
	if b.Node == nil {
		b.Node = &corev3.Node{}
	}
	xds.Identify(b.Node, buildVersion(), registry)
	st := newStats(settings.Stats, o)
	p := &proxy{began: time.Now(), stats: st, settings: settings, runtime: runtime.New(settings.Runtime, st)}
	p.logs = accesslog.NewFiles(accesslog.FileOptions{
		FlushInterval: o.FileFlushInterval, MinSize: o.FileFlushMinSizeKB << 10, Runtime: p.runtime, Remote: p.openLog,
	}, st.Scope("filesystem"))
	p.telemetry = newTelemetry(p)
	outliers, err := outlierLog(b, p.logs, verify)
	if err != nil {
		return nil, err
	}
	if o.Journal > 0 && !verify {
		p.journal = why.NewJournal(o.Journal)
	}
	trim, loaded := newTrimmer(), func() {}
	if !verify { // what is only looked at never starts, and would leave the collector as it is
		loaded = loadSparingly()
	}
	p.server = server.New(server.Options{
		Stats: st, Log: log, DrainTime: o.DrainTime, Gradual: o.DrainStrategy == DrainGradual,
		Node: settings.Node, MaxConnections: settings.MaxConnections,
		Env: filter.Env{Logs: p.logs, Tracers: p.telemetry, Runtime: p.runtime, Failing: p.failing.Load, Journal: p.journal}, UpstreamBind: bind, Resolver: resolver, Verify: verify,
		LocalCluster: b.GetClusterManager().GetLocalClusterName(), Locality: translate.Locality(b.GetNode().GetLocality()),
		Parked: trim.note, ClusterBuilt: trim.built, OutlierLog: outliers, HealthLog: func(path string) (func([]byte), func(), error) {
			f, err := p.logs.Open(path)
			if err != nil {
				return nil, nil, err
			}
			return f.Write, f.Close, nil
		},
	})
	p.telemetry.Connect(p.server.Clusters)
	p.manager = xds.NewManager(xds.Options{
		Engine: p.server, Registry: registry, Log: log("config"), Runtime: p.runtime, Stats: st, Applied: trim.applied,
		Unknown:  unknownFields(o),
		Started:  func() { p.start(log("main")); loaded(); p.garbage.begin() },
		LastGood: xds.LastGood{Dir: o.LastKnownGood, MaxAge: o.LastKnownGoodMaxAge},
	})
	if p.dynamic, err = p.manager.Load(b); err != nil {
		p.close()
		return nil, err
	}
	return p, nil
}

// outlierLog opens the file of cluster_manager.outlier_detection; nil is none.
func outlierLog(b *bootstrapv3.Bootstrap, files *accesslog.Files, verify bool) (func([]byte), error) {
	path := b.GetClusterManager().GetOutlierDetection().GetEventLogPath()
	if path == "" || verify {
		return nil, nil
	}
	f, err := files.Open(path)
	if err != nil {
		return nil, fmt.Errorf("cluster_manager.outlier_detection.event_log_path: %w", err)
	}
	return f.Write, nil
}

// unknownFields is what the flags say about fields of resources that nobody knows. To
// refuse them wins, as in Envoy.
func unknownFields(o Options) xds.UnknownFields {
	switch {
	case o.RejectUnknownDynamic:
		return xds.RefuseUnknown
	case o.IgnoreUnknownDynamic:
		return xds.IgnoreUnknown
	}
	return xds.CountUnknown
}

// newStats returns a store as stats_config and --stats-tag want it.
func newStats(c config.Stats, o Options) *stats.Store {
	st := stats.NewStore()
	var fixed []stats.Label
	for _, t := range o.StatsTags {
		fixed = append(fixed, stats.Label{Name: stats.TagLabel(t.Name), Value: t.Value})
	}
	st.SetFixedLabels(append(fixed, c.Fixed...))
	st.SetTags(c.Tags)
	st.SetMatcher(c.Keep)
	st.SetBuckets(c.Buckets)
	st.SetMaxSeries(c.MaxSeries)
	return st
}

// How long connections, and the last lines of access logs, may take at the end.
const (
	endConnections = 5 * time.Second
	flushLogs      = 2 * time.Second
)

func (p *proxy) close() {
	p.garbage.end()
	p.lastWords() // while there are still clusters to send them to
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		p.server.Close()
	}()
	select {
	case <-ended:
	case <-time.After(endConnections): // a filter that does not notice must not hold up the end
		fmt.Fprintln(os.Stderr, "mecha: some connections have not ended")
	}
	ctx, cancel := context.WithTimeout(context.Background(), flushLogs)
	defer cancel()
	if err := p.logs.Close(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "mecha: access logs:", err)
	}
}

// serve accepts connections and follows the configuration until ctx ends or someone
// asks to quit.
func (p *proxy) serve(ctx context.Context, b *bootstrapv3.Bootstrap, o Options, log *applog.Log, adm net.Listener, reopen func() error) error {
	main := log.Logger("main")
	ctx, quit := context.WithCancel(ctx)
	defer quit()
	c := &console{p: p, bootstrap: b, options: o, start: time.Now(), quit: quit, reopen: reopen}
	p.dynamic.Export(p.stats)
	p.process.export(p.stats, c)
	p.process.StaticUnknown.Add(uint64(p.unknown))
	adminLogs, err := accesslog.OpenSet(p.settings.AdminLogs, p.logs)
	if err != nil {
		return filter.At("admin", err)
	}
	defer adminLogs.Close()
	if err := p.openSinks(); err != nil {
		return err
	}
	onRead := p.sinks.Flush
	if !p.settings.FlushOnAdmin {
		onRead = nil
		go p.sinks.Run(ctx, p.settings.StatsFlush)
	}
	if err := c.serveAdmin(ctx, adm, admin.Config{
		Stats: p.stats, OnRead: onRead, Journal: p.journal, Levels: log, Access: adminLogs.Loggers(), ProfilePath: profilePath(b), MutexTracing: o.MutexTracing,
	}, log.Logger("admin")); err != nil {
		return err
	}
	if d := p.settings.StatsEviction; d > 0 {
		go every(ctx, d, p.stats.Evict)
	}
	go newWatchdogs(p.settings.Watchdogs, p.stats, p.answer, main).run(ctx)
	giveBack() // what reading the configuration took
	err = p.dynamic.Run(ctx)
	if err != nil && !errors.Is(err, context.Canceled) {
		return err
	}
	main.Info("exiting")
	return nil
}

// start lets listeners accept: the clusters and listeners of the bootstrap are warm, and
// the first answers of the control plane have come, or will not come.
func (p *proxy) start(log *slog.Logger) {
	p.server.Start()
	p.process.Init.Record(uint64(time.Since(p.began).Milliseconds()))
	log.Info("started", "listeners", len(p.server.Listeners.Listeners()), "clusters", len(p.server.Clusters.Names()))
}

// answer returns when the control of the process is not held up.
func (p *proxy) answer() {
	p.manager.IsStatic("")
	p.server.Clusters.Warming()
	p.server.Listeners.Listeners()
}

// every calls f each time that d has passed, until ctx ends.
func every(ctx context.Context, d time.Duration, f func()) {
	t := time.NewTicker(d)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
			f()
		}
	}
}
