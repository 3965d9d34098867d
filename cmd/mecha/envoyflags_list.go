package main

import "time"

// envoyFlags lists the command line of Envoy 1.40, and the flags of older
// releases that launchers still pass. It is a table, hence its length.
func envoyFlags() []envoyFlag {
	return []envoyFlag{
		{name: "config-path", short: "c", value: "FILE", help: "the bootstrap: YAML, JSON, .pb or .pb_text; may be a FIFO",
			set: setString(func(o *Options) *string { return &o.ConfigPath })},
		{name: "config-yaml", value: "TEXT", help: "a bootstrap in YAML or JSON, merged over the one of -c",
			set: setString(func(o *Options) *string { return &o.ConfigYAML })},
		{name: "mode", value: "MODE", help: "serve (default), validate or init_only", set: setMode},
		{name: "allow-unknown-static-fields", help: "drop unknown fields of the bootstrap instead of refusing it",
			set: setTrue(func(o *Options) *bool { return &o.AllowUnknownStatic })},
		{name: "allow-unknown-fields", help: "old name of --allow-unknown-static-fields",
			set: setTrue(func(o *Options) *bool { return &o.AllowUnknownStatic })},
		{name: "reject-unknown-dynamic-fields", help: "refuse xDS resources with unknown fields",
			set: setTrue(func(o *Options) *bool { return &o.RejectUnknownDynamic })},
		{name: "ignore-unknown-dynamic-fields", help: "do not count unknown fields of xDS resources",
			set: setTrue(func(o *Options) *bool { return &o.IgnoreUnknownDynamic })},
		{name: "skip-deprecated-logs", help: "do not warn about deprecated fields",
			set: setTrue(func(o *Options) *bool { return &o.SkipDeprecatedLogs })},

		{name: "service-node", value: "ID", help: "replaces node.id", set: setString(func(o *Options) *string { return &o.ServiceNode })},
		{name: "service-cluster", value: "NAME", help: "replaces node.cluster", set: setString(func(o *Options) *string { return &o.ServiceCluster })},
		{name: "service-zone", value: "ZONE", help: "replaces node.locality.zone", set: setString(func(o *Options) *string { return &o.ServiceZone })},
		{name: "concurrency", value: "N", help: "processors to use (default: all the container may use)", set: setConcurrency},
		{name: "cpuset-threads", help: "take the number of processors from the cpuset (always so here)",
			set: setTrue(func(o *Options) *bool { return &o.CPUSetThreads })},

		{name: "log-level", short: "l", value: "LEVEL", help: "trace, debug, info (default), warning, error, critical, off", set: setLogLevel},
		{name: "component-log-level", value: "NAME:LEVEL,...", help: "levels of single components", set: setComponentLevels},
		{name: "log-path", value: "FILE", help: "write the log to FILE; SIGUSR1 opens it anew", set: setString(func(o *Options) *string { return &o.LogPath })},
		{name: "log-format", value: "PATTERN", help: "the log line, in spdlog's pattern syntax", set: setLogFormat},
		{name: "log-format-escaped", help: "apply C escapes to log messages", set: setTrue(func(o *Options) *bool { return &o.LogFormatEscaped })},
		{name: "log-format-prefix-with-location", value: "BOOL", help: "of older releases", set: nothing, ignored: true},
		{name: "log-stacktrace-single-entry", help: "stack traces are one entry anyway", set: setTrue(func(o *Options) *bool { return &o.StacktraceOneEntry }), ignored: true},
		{name: "enable-fine-grain-logging", help: "levels are set by component, not by file", set: setTrue(func(o *Options) *bool { return &o.FineGrainLogging }), ignored: true},

		{name: "admin-address-path", value: "FILE", help: "write the admin listener's address to FILE",
			set: setString(func(o *Options) *string { return &o.AdminAddressPath })},
		{name: "local-address-ip-version", value: "V", help: "v4 (default) or v6", set: setIPVersion},
		{name: "file-flush-interval-msec", value: "N", help: "write access logs out every N milliseconds (10000)",
			set: setDuration(time.Millisecond, func(o *Options) *time.Duration { return &o.FileFlushInterval })},
		{name: "file-flush-min-size-kb", value: "N", help: "or when N kilobytes are waiting (64)",
			set: setUint(func(o *Options, n uint32) { o.FileFlushMinSizeKB = int(n) })},
		{name: "last-known-good", value: "DIR", help: "mecha's own: keep the last accepted configuration in DIR, for a start without control plane",
			set: setString(func(o *Options) *string { return &o.LastKnownGood })},
		{name: "last-known-good-max-age-s", value: "N", help: "mecha's own: seconds after which that is not used any more (86400; 0 never)",
			set: setDuration(time.Second, func(o *Options) *time.Duration { return &o.LastKnownGoodMaxAge })},
		{name: "drain-time-s", value: "N", help: "seconds that draining takes (600)",
			set: setDuration(time.Second, func(o *Options) *time.Duration { return &o.DrainTime })},
		{name: "drain-strategy", value: "HOW", help: "gradual (default) or immediate", set: setDrainStrategy},
		{name: "stats-tag", value: "NAME:VALUE", help: "a tag for every statistic; may be repeated", set: addStatsTag, repeat: true},
		{name: "disable-extensions", value: "NAME,...", help: "treat these extensions as unknown", set: addDisabled},

		{name: "disable-hot-restart", help: "there is no hot restart to disable", set: setTrue(func(o *Options) *bool { return &o.DisableHotRestart }), ignored: true},
		{name: "base-id", value: "N", help: "hot restart", set: setUint(func(o *Options, n uint32) { o.BaseID = n }), ignored: true},
		{name: "use-dynamic-base-id", help: "hot restart", set: setTrue(func(o *Options) *bool { return &o.UseDynamicBaseID }), ignored: true},
		{name: "base-id-path", value: "FILE", help: "hot restart", set: setString(func(o *Options) *string { return &o.BaseIDPath }), ignored: true},
		{name: "restart-epoch", value: "N", help: "hot restart", set: setUint(func(o *Options, n uint32) { o.RestartEpoch = n }), ignored: true},
		{name: "parent-shutdown-time-s", value: "N", help: "hot restart",
			set: setDuration(time.Second, func(o *Options) *time.Duration { return &o.ParentShutdownTime }), ignored: true},
		{name: "skip-hot-restart-on-no-parent", help: "hot restart", set: setTrue(func(o *Options) *bool { return &o.SkipHotRestartNoParent }), ignored: true},
		{name: "skip-hot-restart-parent-stats", help: "hot restart", set: setTrue(func(o *Options) *bool { return &o.SkipHotRestartStats }), ignored: true},
		{name: "socket-path", value: "PATH", help: "hot restart", set: setString(func(o *Options) *string { return &o.SocketPath }), ignored: true},
		{name: "socket-mode", value: "MODE", help: "hot restart", set: setString(func(o *Options) *string { return &o.SocketMode }), ignored: true},
		{name: "bootstrap-version", value: "N", help: "of older releases; the API is v3", set: setBootstrapVersion, ignored: true},
		{name: "enable-mutex-tracing", help: "count waiting for locks, for /contention", set: setTrue(func(o *Options) *bool { return &o.MutexTracing })},
		{name: "enable-core-dump", help: "no function: GOTRACEBACK=crash does it", set: setTrue(func(o *Options) *bool { return &o.CoreDump }), ignored: true},

		{name: "hot-restart-version", help: "print \"disabled\" and exit", set: ask(errHotRestartVersion)},
		{name: "version", help: "print the version and exit", set: ask(errVersion)},
		{name: "help", short: "h", help: "print this and exit", set: ask(errHelp)},
	}
}
