package main

import "fmt"

// commandLine is what /server_info shows of the options
// (envoy.admin.v3.CommandLineOptions).
func (o Options) commandLine() any {
	return map[string]any{
		"config_path": o.ConfigPath, "config_yaml": o.ConfigYAML, "mode": modeName(o.Mode),
		"service_node": o.ServiceNode, "service_cluster": o.ServiceCluster, "service_zone": o.ServiceZone,
		"concurrency": o.Concurrency, "log_level": o.LogLevel.String(), "log_format": o.LogFormat, "log_path": o.LogPath,
		"admin_address_path": o.AdminAddressPath, "local_address_ip_version": o.IPVersion,
		"file_flush_interval":  fmt.Sprintf("%gs", o.FileFlushInterval.Seconds()),
		"drain_time":           fmt.Sprintf("%gs", o.DrainTime.Seconds()),
		"parent_shutdown_time": fmt.Sprintf("%gs", o.ParentShutdownTime.Seconds()),
		"drain_strategy":       o.DrainStrategy.proto(), "disable_hot_restart": true,
		"allow_unknown_static_fields": o.AllowUnknownStatic, "reject_unknown_dynamic_fields": o.RejectUnknownDynamic,
		"ignore_unknown_dynamic_fields": o.IgnoreUnknownDynamic,
	}
}

func modeName(m Mode) string {
	return [...]string{"Serve", "Validate", "InitOnly"}[m]
}

func (s DrainStrategy) proto() string {
	if s == DrainImmediate {
		return "Immediate"
	}
	return "Gradual"
}
