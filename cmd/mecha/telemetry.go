package main

import (
	"context"
	"sync"

	"github.com/mecha-mesh/mecha/proxy/accesslog"
	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/telemetry"
)

// newTelemetry makes what exports the telemetry of a process.
func newTelemetry(p *proxy) *telemetry.Hub {
	return telemetry.New(telemetry.Options{
		Stats: p.stats, Runtime: p.runtime, Node: p.settings.Node, Version: buildVersion(),
		NodeMessage: p.settings.NodeMessage, Default: p.settings.Tracing,
	})
}

// openLog opens an access log that goes to a service.
func (p *proxy) openLog(config any) (accesslog.Recorder, error) { return p.telemetry.Recorder(config) }

// openSinks opens the sinks of statistics.
func (p *proxy) openSinks() (err error) {
	var at int
	if p.sinks, at, err = p.telemetry.Sinks(p.settings.StatsSinks); err != nil {
		return filter.AtIndex("stats_sinks", at, err)
	}
	return nil
}

// lastWords sends what telemetry is left, and what statistics have come to.
func (p *proxy) lastWords() {
	if p.telemetry == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), flushLogs)
	defer cancel()
	var wg sync.WaitGroup
	if p.sinks != nil {
		wg.Go(func() {
			p.sinks.Flush()
			p.sinks.Close(ctx)
		})
	}
	p.telemetry.Close(ctx)
	wg.Wait()
}
