package tcpproxy

import "github.com/mecha-mesh/mecha/proxy/stats"

// neverCounters are names of tcp.<stat_prefix> for what does not happen here.
// They take no memory; whoever makes one of them happen moves it to a real counter.
type neverCounters struct {
	DownstreamCxOverloadClose                stats.Never      `stat:"downstream_cx_overload_close" help:"0: this build has no overload actions."`
	DownstreamFlowControlPausedReadingTotal  stats.Never      `stat:"downstream_flow_control_paused_reading_total" help:"0: the kernel moves the bytes."`
	DownstreamFlowControlResumedReadingTotal stats.Never      `stat:"downstream_flow_control_resumed_reading_total" help:"0: the kernel moves the bytes."`
	EarlyDataReceivedCountTotal              stats.Never      `stat:"early_data_received_count_total" help:"0: bytes wait in the socket."`
	RouteDelayedTotal                        stats.Never      `stat:"route_delayed_total" help:"0: routes do not wait."`
	UpstreamFlushTotal                       stats.Never      `stat:"upstream_flush_total" help:"0: no connection outlives its session."`
	DownstreamCxRxBytesBuffered              stats.NeverGauge `stat:"downstream_cx_rx_bytes_buffered" help:"0: the kernel holds the bytes."`
	DownstreamCxTxBytesBuffered              stats.NeverGauge `stat:"downstream_cx_tx_bytes_buffered" help:"0: the kernel holds the bytes."`
	UpstreamFlushActive                      stats.NeverGauge `stat:"upstream_flush_active" help:"0: no connection outlives its session."`
}
