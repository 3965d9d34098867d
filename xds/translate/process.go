package translate

import (
	"fmt"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	overloadv3 "github.com/envoyproxy/go-control-plane/envoy/config/overload/v3"
	connectionsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/resource_monitors/downstream_connections/v3"
	"google.golang.org/protobuf/proto"

	"github.com/mecha-mesh/mecha/proxy/accesslog"
	"github.com/mecha-mesh/mecha/proxy/config"
	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/filter/fromproto"
)

// processFields is what of Bootstrap is obeyed, here or where resources and the log are
// set up. What is ignored watches over, measures or tunes Envoy's own machinery.
var processFields = fromproto.Fields{
	Used: []string{
		"cluster_manager",
		"node", "static_resources", "dynamic_resources", "stats_flush_interval", "layered_runtime", "admin",
		"overload_manager", "stats_flush_on_admin", "stats_eviction_interval", "watchdog", "watchdogs", "application_log_config", "stats_config", "deferred_stat_options",
		"tracing", "stats_sinks", "use_tcp_for_dns_lookups", "dns_resolution_config", "typed_dns_resolver_config",
	},
	Ignored: []string{
		"node_context_params", "hds_config", "flags_path", "enable_dispatcher_stats", "stats_server_version_override",
		"bootstrap_extensions", "fatal_actions",
		"config_sources", "default_config_source", "default_socket_interface", "certificate_provider_instances",
		"inline_headers", "perf_tracing_file_path", "default_regex_engine", "xds_delegate_extension",
		"xds_config_tracker_extension", "listener_manager", "grpc_async_client_manager_config", "memory_allocator_manager",
		"enable_worker_cpu_affinity",
	},
}

// Process translates what a bootstrap says about the process itself. The warnings name
// what has no effect.
func Process(pb *bootstrapv3.Bootstrap) (*config.Process, []string, error) {
	p := &filter.Parser{}
	if err := fromproto.Check(pb, p, processFields); err != nil {
		return nil, nil, err
	}
	n := pb.GetNode()
	c := &config.Process{Node: filter.Node{ID: n.GetId(), Cluster: n.GetCluster(), Zone: n.GetLocality().GetZone()}}
	var err error
	if c.NodeMessage, err = proto.Marshal(n); err != nil {
		return nil, nil, filter.At("node", err)
	}
	for _, step := range []func(*bootstrapv3.Bootstrap, *config.Process, *filter.Parser) error{
		processAdmin, processClusters, processRuntime, processStats, processOverload, processWatchdogs, processTracing, processSinks,
	} {
		if err := step(pb, c, p); err != nil {
			return nil, nil, err
		}
	}
	return c, p.Warnings, nil
}

// processClusters notes what of cluster_manager has no effect; the rest is read where it
// is used.
func processClusters(pb *bootstrapv3.Bootstrap, _ *config.Process, p *filter.Parser) error {
	m := pb.ClusterManager
	if m == nil {
		return nil
	}
	return filter.At("cluster_manager", fromproto.Check(m, p, fromproto.Fields{
		Used:    []string{"local_cluster_name", "outlier_detection", "upstream_bind_config"},
		Ignored: []string{"load_stats_config", "enable_deferred_cluster_creation"}, // clusters are always made when they are used
	}))
}

func processAdmin(pb *bootstrapv3.Bootstrap, c *config.Process, p *filter.Parser) (err error) {
	a := pb.Admin
	if a == nil {
		return nil
	}
	err = fromproto.Check(a, p, fromproto.Fields{
		Used:    []string{"access_log", "address", "ignore_global_conn_limit", "profile_path", "access_log_path"},
		Ignored: []string{"socket_options"},
	})
	if err == nil {
		c.AdminLogs, err = fromproto.AccessLogs(a.AccessLog)
	}
	if path := a.AccessLogPath; err == nil && path != "" { // deprecated: what access_log replaced
		var f *accesslog.Format
		f, err = accesslog.Compile(accesslog.DefaultFormat)
		c.AdminLogs = append(c.AdminLogs, accesslog.Spec{Path: path, Format: f})
	}
	return filter.At("admin", err)
}

const connectionsMonitor = "envoy.extensions.resource_monitors.downstream_connections.v3.DownstreamConnectionsConfig"

func processOverload(pb *bootstrapv3.Bootstrap, c *config.Process, p *filter.Parser) error {
	o := pb.OverloadManager
	if o == nil {
		return nil
	}
	err := fromproto.Check(o, p, fromproto.Fields{
		Used:    []string{"resource_monitors"},
		Ignored: []string{"refresh_interval", "actions", "loadshed_points", "buffer_factory_config"},
	})
	if err != nil {
		return filter.At("overload_manager", err)
	}
	for i, m := range o.ResourceMonitors {
		if err := resourceMonitor(m, c, p); err != nil {
			return filter.At("overload_manager", filter.AtIndex("resource_monitors", i, err))
		}
	}
	return nil
}

func resourceMonitor(m *overloadv3.ResourceMonitor, c *config.Process, p *filter.Parser) error {
	a, err := fromproto.Any(m.GetTypedConfig())
	if err != nil {
		return filter.At("typed_config", err)
	}
	if a.Type != connectionsMonitor {
		p.Warnings = append(p.Warnings, fmt.Sprintf("this build does not have the resource monitor %q", a.Type))
		return nil
	}
	var d connectionsv3.DownstreamConnectionsConfig
	if err := fromproto.Unmarshal(a.Value, &d); err != nil {
		return filter.At("typed_config", err)
	}
	c.MaxConnections = d.MaxActiveDownstreamConnections
	return nil
}

func processTracing(pb *bootstrapv3.Bootstrap, c *config.Process, p *filter.Parser) (err error) {
	http := pb.GetTracing().GetHttp() //nolint:staticcheck // deprecated, still sent
	if http == nil {
		return nil
	}
	c.Tracing, err = fromproto.TracingProvider(http, p)
	return filter.At("tracing.http", err)
}
