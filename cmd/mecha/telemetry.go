package main

import (
	"context"

	"github.com/mecha-mesh/mecha/proxy/accesslog"
	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/stats/statsd"
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

// flusher opens the sinks of statistics, and returns what ends an interval.
func (p *proxy) flusher() (flush func(), err error) {
	var sinks []*statsd.Sink
	for i, c := range p.settings.StatsSinks {
		s, err := statsd.Open(c, p.stats)
		if err != nil {
			return nil, filter.AtIndex("stats_sinks", i, err)
		}
		sinks = append(sinks, s)
	}
	return func() {
		p.stats.Flush()
		for _, s := range sinks {
			s.Flush(p.stats)
		}
	}, nil
}

// lastWords sends what telemetry is left.
func (p *proxy) lastWords() {
	if p.telemetry == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), flushLogs)
	defer cancel()
	p.telemetry.Close(ctx)
}
