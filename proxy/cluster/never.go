package cluster

import "github.com/mecha-mesh/mecha/proxy/stats"

// neverStats are names of cluster.<name> for what does not happen here.
// They take no memory; whoever makes one of them happen moves it to a real counter.
type neverStats struct {
	AssignmentStale                stats.Never `stat:"assignment_stale" help:"0: assignments do not become stale."`
	AssignmentTimeoutReceived      stats.Never `stat:"assignment_timeout_received" help:"0: assignments do not become stale."`
	AssignmentUseCached            stats.Never `stat:"assignment_use_cached" help:"0: this build has no cache of assignments."`
	UpstreamCxConnectWith0Rtt      stats.Never `stat:"upstream_cx_connect_with_0_rtt" help:"0: this build has no HTTP/3."`
	UpstreamCxHttp3Total           stats.Never `stat:"upstream_cx_http3_total" help:"0: this build has no HTTP/3."`
	UpstreamHttp3Broken            stats.Never `stat:"upstream_http3_broken" help:"0: this build has no HTTP/3."`
	UpstreamRq0rtt                 stats.Never `stat:"upstream_rq_0rtt" help:"0: this build has no HTTP/3."`
	UpstreamRqRxResetNoError       stats.Never `stat:"upstream_rq_rx_reset_no_error" help:"0: a host that wants no more of a request has answered it."`
	Http1MetadataNotSupportedError stats.Never `stat:"http1.metadata_not_supported_error" help:"0: this build has no METADATA frames."`
	Http1ResponseFlood             stats.Never `stat:"http1.response_flood" help:"0: one response at a time."`
}
