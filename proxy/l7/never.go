package l7

import "github.com/mecha-mesh/mecha/proxy/stats"

// neverCounters are names of http.<stat_prefix> for what does not happen here.
// They take no memory; whoever makes one of them happen moves it to a real counter.
type neverCounters struct {
	DownstreamCxDelayedCloseTimeout          stats.Never      `stat:"downstream_cx_delayed_close_timeout" help:"0: connections are closed without a delay."`
	DownstreamCxHttp1SoftDrain               stats.Never      `stat:"downstream_cx_http1_soft_drain" help:"0: HTTP/1 connections drain at their next response."`
	DownstreamCxHttp2Total                   stats.Never      `stat:"downstream_cx_http2_total" help:"0: this build has no HTTP/2."`
	DownstreamCxHttp3Total                   stats.Never      `stat:"downstream_cx_http3_total" help:"0: this build has no HTTP/3."`
	DownstreamRqHttp2Total                   stats.Never      `stat:"downstream_rq_http2_total" help:"0: this build has no HTTP/2."`
	DownstreamRqHttp3Total                   stats.Never      `stat:"downstream_rq_http3_total" help:"0: this build has no HTTP/3."`
	DownstreamCxSslTotal                     stats.Never      `stat:"downstream_cx_ssl_total" help:"0: this build has no TLS."`
	DownstreamCxOverloadDisableKeepalive     stats.Never      `stat:"downstream_cx_overload_disable_keepalive" help:"0: this build has no overload actions."`
	DownstreamRqOverloadClose                stats.Never      `stat:"downstream_rq_overload_close" help:"0: this build has no overload actions."`
	RqOverloadLocalReply                     stats.Never      `stat:"rq_overload_local_reply" help:"0: this build has no overload actions."`
	DownstreamFlowControlPausedReadingTotal  stats.Never      `stat:"downstream_flow_control_paused_reading_total" help:"0: a goroutine that waits reads nothing."`
	DownstreamFlowControlResumedReadingTotal stats.Never      `stat:"downstream_flow_control_resumed_reading_total" help:"0: a goroutine that waits reads nothing."`
	DownstreamRqTooManyPrematureResets       stats.Never      `stat:"downstream_rq_too_many_premature_resets" help:"0: this build has no HTTP/2."`
	RsTooLarge                               stats.Never      `stat:"rs_too_large" help:"0: this build has no buffering of responses."`
	TracingClientEnabled                     stats.Never      `stat:"tracing.client_enabled" help:"0: this build has no tracing."`
	TracingHealthCheck                       stats.Never      `stat:"tracing.health_check" help:"0: this build has no tracing."`
	TracingNotTraceable                      stats.Never      `stat:"tracing.not_traceable" help:"0: this build has no tracing."`
	TracingRandomSampling                    stats.Never      `stat:"tracing.random_sampling" help:"0: this build has no tracing."`
	TracingServiceForced                     stats.Never      `stat:"tracing.service_forced" help:"0: this build has no tracing."`
	DownstreamCxHttp2Active                  stats.NeverGauge `stat:"downstream_cx_http2_active" help:"0: this build has no HTTP/2."`
	DownstreamCxHttp3Active                  stats.NeverGauge `stat:"downstream_cx_http3_active" help:"0: this build has no HTTP/3."`
	DownstreamCxSslActive                    stats.NeverGauge `stat:"downstream_cx_ssl_active" help:"0: this build has no TLS."`
}
