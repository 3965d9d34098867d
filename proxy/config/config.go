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
)

// Process is the process's own configuration: validated, immutable
// (envoy.config.bootstrap.v3.Bootstrap without its resources).
type Process struct {
	Node filter.Node
	// AdminLogs is admin.access_log.
	AdminLogs []accesslog.Spec
	// StatsFlush is stats_flush_interval: 5 s unless set.
	StatsFlush time.Duration
	// MaxConnections limits all listeners together (the resource monitor
	// global_downstream_max_connections); 0 is no limit.
	MaxConnections int64
	// Runtime is layered_runtime, the layer that wins last.
	Runtime []runtime.Layer
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
