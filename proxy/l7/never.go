package l7

import "github.com/mecha-mesh/mecha/proxy/stats"

// neverCounters are names of http.<stat_prefix> for what does not happen here.
// They take no memory; whoever makes one of them happen moves it to a real counter.
type neverCounters struct {
	DownstreamCxDelayedCloseTimeout      stats.Never      `stat:"downstream_cx_delayed_close_timeout" help:"0: connections are closed without a delay."`
	DownstreamCxHttp1SoftDrain           stats.Never      `stat:"downstream_cx_http1_soft_drain" help:"0: HTTP/1 connections drain at their next response."`
	DownstreamCxHttp3Total               stats.Never      `stat:"downstream_cx_http3_total" help:"0: this build has no HTTP/3."`
	DownstreamRqHttp3Total               stats.Never      `stat:"downstream_rq_http3_total" help:"0: this build has no HTTP/3."`
	DownstreamCxOverloadDisableKeepalive stats.Never      `stat:"downstream_cx_overload_disable_keepalive" help:"0: this build has no overload actions."`
	DownstreamRqOverloadClose            stats.Never      `stat:"downstream_rq_overload_close" help:"0: this build has no overload actions."`
	RqOverloadLocalReply                 stats.Never      `stat:"rq_overload_local_reply" help:"0: this build has no overload actions."`
	DownstreamCxHttp3Active              stats.NeverGauge `stat:"downstream_cx_http3_active" help:"0: this build has no HTTP/3."`
}
