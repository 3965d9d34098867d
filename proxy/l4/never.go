package l4

import "github.com/mecha-mesh/mecha/proxy/stats"

// neverStats are names of listener.<address> for what does not happen here.
// They take no memory; whoever makes one of them happen moves it to a real counter.
type neverStats struct {
	DownstreamCxOverloadReject    stats.Never `stat:"downstream_cx_overload_reject" help:"0: this build has no overload actions."`
	ExtensionConfigMissing        stats.Never `stat:"extension_config_missing" help:"0: this build has no extension config discovery."`
	NetworkExtensionConfigMissing stats.Never `stat:"network_extension_config_missing" help:"0: this build has no extension config discovery."`
}
