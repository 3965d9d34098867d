// Package config is what a bootstrap says about the process itself, as plain values:
// limits, statistics, the admin endpoint's logs, runtime values.
//
// Clusters, listeners and where they come from are not here: package xds applies
// those one by one.
package config

import (
	"time"

	"github.com/mecha-mesh/mecha/proxy/accesslog"
	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/runtime"
	"github.com/mecha-mesh/mecha/proxy/stats"
)

// Process is the process's own configuration: validated, immutable
// (envoy.config.bootstrap.v3.Bootstrap without its resources).
type Process struct {
	Node filter.Node
	// AdminLogs is admin.access_log.
	AdminLogs []accesslog.Spec
	// StatsFlush is stats_flush_interval: 5 s unless set.
	StatsFlush time.Duration
	Stats      Stats
	// MaxConnections limits all listeners together (the resource monitor
	// global_downstream_max_connections); 0 leaves it to the runtime.
	MaxConnections int64
	// Runtime is layered_runtime, the layer that wins last.
	Runtime []runtime.Layer
}

// Stats is stats_config.
type Stats struct {
	Tags    *stats.Tags            // nil leaves every label as it is
	Fixed   []stats.Label          // stats_tags with fixed_value
	Keep    func(name string) bool // stats_matcher; nil keeps all
	Buckets []stats.BucketRule
	// MaxSeries is how many series of one name Prometheus is shown; the rest is added up
	// in one. 0 is no limit. It is mecha's own: the runtime key
	// mecha.stats.max_series_per_metric.
	MaxSeries int
}

// RuntimeValue returns the value of a key in the last static layer that has it.
func (p *Process) RuntimeValue(key string) (value string, ok bool) {
	for _, l := range p.Runtime {
		if v, there := l.Values[key]; there {
			value, ok = v, true
		}
	}
	return value, ok
}
