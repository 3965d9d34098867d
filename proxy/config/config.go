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
	// NodeMessage is the whole of it, as envoy.config.core.v3.Node.
	NodeMessage []byte
	// AdminLogs is admin.access_log.
	AdminLogs []accesslog.Spec
	// Tracing is the provider of tracing.http, which connection managers use that name none.
	Tracing any
	// StatsFlush is stats_flush_interval: 5 s unless set.
	StatsFlush time.Duration
	// StatsSinks is stats_sinks: where statistics are sent with each flush, as what package
	// telemetry opens.
	StatsSinks []any
	// FlushOnAdmin is stats_flush_on_admin: intervals end when somebody asks for /stats, and at
	// no other time.
	FlushOnAdmin bool
	// StatsEviction is stats_eviction_interval, 0 is never.
	StatsEviction time.Duration
	Stats         Stats
	// Watchdogs watch over the control of the process and over its requests; nil does not.
	Watchdogs *Watchdogs
	// MaxConnections limits all listeners together (the resource monitor
	// global_downstream_max_connections); 0 leaves it to the runtime.
	MaxConnections int64
	// Runtime is layered_runtime, the layer that wins last.
	Runtime []runtime.Layer
}

// Watchdogs are watchdogs.main_thread_watchdog and watchdogs.worker_watchdog.
type Watchdogs struct{ Main, Workers Watchdog }

// Watchdog says what becomes of it when something does not answer for so long.
type Watchdog struct {
	Miss, MegaMiss time.Duration // 200 ms and 1 s unless set
	Kill           time.Duration // kill_timeout, max_kill_timeout_jitter included; 0 is never
	MultiKill      time.Duration // multikill_timeout, 0 is never
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
