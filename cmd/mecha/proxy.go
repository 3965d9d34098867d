package main

import (
	"context"
	"fmt"
	"log/slog"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"

	"github.com/mecha-mesh/mecha/filters"
	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/server"
	"github.com/mecha-mesh/mecha/proxy/stats"
	"github.com/mecha-mesh/mecha/xds"
)

// runProxy is the data plane from the bootstrap to the last connection.
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
	logStart(log, o, report)
	tuneRuntime(o)
	main := log.Logger("main")
	ctx, stop := watchSignals(ctx, main, log.Reopen)
	defer stop()

	p, err := newProxy(b, o, log.Logger)
	if err != nil {
		return fmt.Errorf("%s: %w", o.ConfigPath, err)
	}
	defer p.server.Close()
	p.server.Start()
	main.Info("started")
	if err := p.dynamic.Run(ctx); err != nil {
		return err
	}
	<-ctx.Done()
	main.Info("exiting")
	return nil
}

// proxy is the engine and what configures it.
type proxy struct {
	stats   *stats.Store
	server  *server.Server
	manager *xds.Manager
	dynamic *xds.Dynamic
}

// newProxy builds everything that a bootstrap describes. Listeners are bound and
// accept nothing yet.
func newProxy(b *bootstrapv3.Bootstrap, o Options, log func(component string) *slog.Logger) (*proxy, error) {
	registry, err := filter.NewRegistry(filters.All()...)
	if err != nil {
		return nil, err
	}
	st := stats.NewStore()
	p := &proxy{stats: st, server: server.New(server.Options{
		Stats: st, Log: log, DrainTime: o.DrainTime, Gradual: o.DrainStrategy == DrainGradual,
		Node: filter.Node{ID: b.GetNode().GetId(), Cluster: b.GetNode().GetCluster(), Zone: b.GetNode().GetLocality().GetZone()},
	})}
	p.manager = xds.NewManager(p.server, registry, log("config"))
	if p.dynamic, err = p.manager.Load(b); err != nil {
		p.server.Close()
		return nil, err
	}
	return p, nil
}

