package main

import (
	"runtime"
	"strconv"
	"time"

	"github.com/mecha-mesh/mecha/proxy/applog"
)

// commandLine is what /server_info shows of the options
// (envoy.admin.v3.CommandLineOptions).
func (o Options) commandLine() any {
	format := o.LogFormat
	if format == "" {
		format = applog.DefaultPattern
	}
	concurrency := o.Concurrency
	if concurrency == 0 {
		concurrency = runtime.GOMAXPROCS(0)
	}
	mode, err := strconv.ParseUint(o.SocketMode, 8, 32)
	if err != nil {
		mode = 0
	}
	tags := []string{}
	for _, t := range o.StatsTags {
		tags = append(tags, t.Name+":"+t.Value)
	}
	return map[string]any{
		"base_id": strconv.FormatUint(uint64(o.BaseID), 10), "use_dynamic_base_id": o.UseDynamicBaseID, "base_id_path": o.BaseIDPath,
		"concurrency": concurrency, "config_path": o.ConfigPath, "config_yaml": o.ConfigYAML,
		"allow_unknown_static_fields": o.AllowUnknownStatic, "reject_unknown_dynamic_fields": o.RejectUnknownDynamic,
		"ignore_unknown_dynamic_fields": o.IgnoreUnknownDynamic, "skip_deprecated_logs": o.SkipDeprecatedLogs,
		"admin_address_path": o.AdminAddressPath, "local_address_ip_version": o.IPVersion,
		"log_level": applog.LevelName(o.LogLevel), "component_log_level": o.ComponentLevelText, "log_format": format,
		"log_format_escaped": o.LogFormatEscaped, "log_path": o.LogPath, "enable_fine_grain_logging": o.FineGrainLogging,
		"log_stacktrace_single_entry": o.StacktraceOneEntry,
		"service_cluster":             o.ServiceCluster, "service_node": o.ServiceNode, "service_zone": o.ServiceZone,
		"file_flush_interval": seconds(o.FileFlushInterval), "file_flush_min_size": o.FileFlushMinSizeKB,
		"drain_time": seconds(o.DrainTime), "drain_strategy": o.DrainStrategy.proto(), "parent_shutdown_time": seconds(o.ParentShutdownTime),
		"mode": modeName(o.Mode), "restart_epoch": o.RestartEpoch, "disable_hot_restart": o.DisableHotRestart,
		"skip_hot_restart_on_no_parent": o.SkipHotRestartNoParent, "skip_hot_restart_parent_stats": o.SkipHotRestartStats,
		"enable_mutex_tracing": o.MutexTracing, "cpuset_threads": o.CPUSetThreads, "disabled_extensions": append([]string{}, o.DisabledExtensions...),
		"socket_path": o.SocketPath, "socket_mode": mode, "enable_core_dump": o.CoreDump, "stats_tag": tags,
	}
}

func seconds(d time.Duration) string { return strconv.FormatFloat(d.Seconds(), 'f', -1, 64) + "s" }

func modeName(m Mode) string {
	return [...]string{"Serve", "Validate", "InitOnly"}[m]
}

func (s DrainStrategy) proto() string {
	if s == DrainImmediate {
		return "Immediate"
	}
	return "Gradual"
}
