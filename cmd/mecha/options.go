package main

import (
	"log/slog"
	"time"

	"github.com/mecha-mesh/mecha/proxy/applog"
)

// Mode is what the process does with its configuration (--mode).
type Mode uint8

const (
	// ModeServe carries traffic until told to stop.
	ModeServe Mode = iota
	// ModeValidate checks the configuration and exits.
	ModeValidate
	// ModeInitOnly builds everything the configuration describes, without
	// opening a listener, and exits.
	ModeInitOnly
)

// String is Envoy's spelling on the command line.
func (m Mode) String() string {
	switch m {
	case ModeValidate:
		return "validate"
	case ModeInitOnly:
		return "init_only"
	}
	return "serve"
}

// DrainStrategy is how connections are closed while draining
// (--drain-strategy).
type DrainStrategy uint8

const (
	// DrainGradual asks a growing share of connections to close over the drain
	// time.
	DrainGradual DrainStrategy = iota
	// DrainImmediate asks all of them at once.
	DrainImmediate
)

// String is Envoy's spelling on the command line.
func (s DrainStrategy) String() string {
	if s == DrainImmediate {
		return "immediate"
	}
	return "gradual"
}

// StatsTag is one --stats-tag: it is attached to every statistic.
type StatsTag struct{ Name, Value string }

// Options is everything Envoy's command line gives, with Envoy's defaults where
// a flag is absent. Fields without function in mecha are kept because
// /server_info shows them.
type Options struct {
	// Program is argv[0].
	Program string
	Mode    Mode

	// ConfigPath is -c, ConfigYAML is merged over it; at least one is set in
	// any mode that reads a configuration.
	ConfigPath, ConfigYAML string
	AllowUnknownStatic     bool
	RejectUnknownDynamic   bool
	IgnoreUnknownDynamic   bool
	SkipDeprecatedLogs     bool

	// ServiceNode, ServiceCluster and ServiceZone replace node.id,
	// node.cluster and node.locality.zone unless empty.
	ServiceNode, ServiceCluster, ServiceZone string

	// Concurrency is the number of processors to use; 0 when the flag is
	// absent: all that the container may use.
	Concurrency   int
	CPUSetThreads bool

	LogLevel        slog.Level
	ComponentLevels []applog.ComponentLevel
	// LogPath is a file for the log; empty is standard error.
	LogPath string
	// LogFormat is a pattern for applog.ParsePattern; empty when not given.
	LogFormat        string
	LogFormatEscaped bool

	// AdminAddressPath is a file that gets the admin listener's address.
	AdminAddressPath string
	// IPVersion is v4 or v6: the loopback of the proxy's own making.
	IPVersion string

	// FileFlushInterval and FileFlushMinSizeKB say when access logs are
	// written out.
	FileFlushInterval  time.Duration
	FileFlushMinSizeKB int

	// LastKnownGood is mecha's own: a directory for the last accepted configuration, and
	// how old it may be to be used.
	LastKnownGood       string
	LastKnownGoodMaxAge time.Duration

	// Journal is mecha's own: how many exchanges are remembered for /why; 0 is none.
	Journal int

	// DNS is mecha's own: the listener for captured DNS queries.
	DNS dnsOptions

	DrainTime          time.Duration
	DrainStrategy      DrainStrategy
	ParentShutdownTime time.Duration

	StatsTags          []StatsTag
	DisabledExtensions []string

	// BaseID, RestartEpoch, SocketPath and SocketMode belong to Envoy's hot
	// restart.
	BaseID, RestartEpoch   uint32
	SocketPath, SocketMode string
	DisableHotRestart      bool
	UseDynamicBaseID       bool
	BaseIDPath             string
	SkipHotRestartNoParent bool
	SkipHotRestartStats    bool

	// MutexTracing makes /contention answer. The rest is kept for /server_info.
	MutexTracing       bool
	FineGrainLogging   bool
	StacktraceOneEntry bool
	CoreDump           bool
	// ComponentLevelText is --component-log-level as it was given.
	ComponentLevelText string

	// Ignored are the flags that were given and have no function here, for
	// one line at level debug.
	Ignored []string
}

// defaultOptions are Envoy's.
func defaultOptions(program string) Options {
	return Options{
		Program:            program,
		LogLevel:           applog.LevelInfo,
		IPVersion:          "v4",
		FileFlushInterval:  10 * time.Second,
		FileFlushMinSizeKB: 64,
		DrainTime:          600 * time.Second,

		LastKnownGoodMaxAge: 24 * time.Hour,
		Journal:             256,
		ParentShutdownTime:  900 * time.Second,
		SocketPath:          "@envoy_domain_socket",
		SocketMode:          "0",
	}
}
