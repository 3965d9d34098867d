package l7

import (
	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/stats"
)

// counters are the statistics of a connection manager, http.<stat_prefix>.
type counters struct {
	neverCounters // of no size; first, where it adds none

	CxTotal        stats.Counter   `stat:"downstream_cx_total" help:"Connections"`
	CxActive       stats.Gauge     `stat:"downstream_cx_active" help:"Connections that are open"`
	CxHTTP1Total   stats.Counter   `stat:"downstream_cx_http1_total" help:"HTTP/1 connections"`
	CxHTTP1Active  stats.Gauge     `stat:"downstream_cx_http1_active" help:"HTTP/1 connections that are open"`
	CxHTTP2Total   stats.Counter   `stat:"downstream_cx_http2_total" help:"HTTP/2 connections"`
	CxHTTP2Active  stats.Gauge     `stat:"downstream_cx_http2_active" help:"HTTP/2 connections that are open"`
	CxTLSTotal     stats.Counter   `stat:"downstream_cx_ssl_total" help:"Connections over TLS"`
	CxTLSActive    stats.Gauge     `stat:"downstream_cx_ssl_active" help:"Connections over TLS that are open"`
	CxDestroy      stats.Counter   `stat:"downstream_cx_destroy" help:"Connections closed"`
	CxDestroyLocal stats.Counter   `stat:"downstream_cx_destroy_local" help:"Connections closed by the proxy"`
	CxDestroyPeer  stats.Counter   `stat:"downstream_cx_destroy_remote" help:"Connections closed by the client"`
	CxActiveRq     stats.Counter   `stat:"downstream_cx_destroy_active_rq" help:"Connections closed with a request under way"`
	CxRemoteActive stats.Counter   `stat:"downstream_cx_destroy_remote_active_rq" help:"Connections closed by the client with a request under way"`
	CxLocalActive  stats.Counter   `stat:"downstream_cx_destroy_local_active_rq" help:"Connections closed by the proxy with a request under way"`
	CxLength       stats.Histogram `stat:"downstream_cx_length_ms" help:"Length of connections in milliseconds"`
	CxRx           stats.Counter   `stat:"downstream_cx_rx_bytes_total" help:"Bytes received"`
	CxTx           stats.Counter   `stat:"downstream_cx_tx_bytes_total" help:"Bytes sent"`
	CxDrainClose   stats.Counter   `stat:"downstream_cx_drain_close" help:"Connections closed because the listener drains"`
	CxIdle         stats.Counter   `stat:"downstream_cx_idle_timeout" help:"Connections closed because they were idle"`
	CxMaxDuration  stats.Counter   `stat:"downstream_cx_max_duration_reached" help:"Connections closed because of their age"`
	CxMaxRequests  stats.Counter   `stat:"downstream_cx_max_requests_reached" help:"Connections closed after their last request"`
	CxProtocol     stats.Counter   `stat:"downstream_cx_protocol_error" help:"Connections with a protocol error"`
	CxUpgrades     stats.Counter   `stat:"downstream_cx_upgrades_total" help:"Connections that were upgraded"`
	CxUpgradesNow  stats.Gauge     `stat:"downstream_cx_upgrades_active" help:"Upgraded connections that are open"`

	traceCounters

	RqTotal       stats.Counter       `stat:"downstream_rq_total" help:"Requests"`
	RqHTTP1       stats.Counter       `stat:"downstream_rq_http1_total" help:"HTTP/1 requests"`
	RqHTTP2       stats.Counter       `stat:"downstream_rq_http2_total" help:"HTTP/2 requests"`
	RqActive      stats.Gauge         `stat:"downstream_rq_active" help:"Requests under way"`
	Responses     stats.ClassCounters `stat:"downstream_rq" help:"Responses: _completed is all of them, _1xx to _5xx those of a class"`
	RqTime        stats.Histogram     `stat:"downstream_rq_time" help:"Duration of requests in milliseconds"`
	RqRxReset     stats.Counter       `stat:"downstream_rq_rx_reset" help:"Requests given up by the client"`
	RqTxReset     stats.Counter       `stat:"downstream_rq_tx_reset" help:"Requests given up by the proxy"`
	RqTimeout     stats.Counter       `stat:"downstream_rq_timeout" help:"Requests that did not arrive within the request timeout"`
	RqHeaderTime  stats.Counter       `stat:"downstream_rq_header_timeout" help:"Request heads that did not arrive in time"`
	RqIdle        stats.Counter       `stat:"downstream_rq_idle_timeout" help:"Streams closed because they were idle"`
	RqMaxDuration stats.Counter       `stat:"downstream_rq_max_duration_reached" help:"Streams closed because of their age"`
	RsTooLarge    stats.Counter       `stat:"rs_too_large" help:"Responses that a filter had to keep back and that exceed the buffer"`
	RqTooLarge    stats.Counter       `stat:"downstream_rq_too_large" help:"Requests whose body exceeds a buffer"`
	RqNonRelative stats.Counter       `stat:"downstream_rq_non_relative_path" help:"Requests with a path that is not relative"`
	RqRedirected  stats.Counter       `stat:"downstream_rq_redirected_with_normalized_path" help:"Requests redirected to the path that theirs stands for"`
	RqFailedPath  stats.Counter       `stat:"downstream_rq_failed_path_normalization" help:"Requests whose path could not be normalised"`
	RqRejected    stats.Counter       `stat:"downstream_rq_rejected_via_ip_detection" help:"Requests rejected by the detection of the client's address"`
	RqEarly       stats.Counter       `stat:"downstream_rq_response_before_rq_complete" help:"Responses that began before the request was complete"`
	RqWSNoRoute   stats.Counter       `stat:"downstream_rq_ws_on_non_ws_route" help:"Upgrades that the route does not allow"`
	RqPremature   stats.Counter       `stat:"downstream_rq_too_many_premature_resets" help:"Connections closed because the client gave up too many requests at once"`
	StreamPanics  stats.Counter       `stat:"stream_panics" help:"Streams ended by a bug in a filter"`
}

// byListener counts the responses of a connection manager at its listener,
// listener.<address>.http.<stat_prefix>.
type byListener struct {
	Responses stats.ClassCounters `stat:"downstream_rq" help:"The same in listener.<address>.http.<stat_prefix>"`
}

// count finds what the manager counts in. A new version of a filter chain counts on where
// the version before counts still; what nobody counts in any more is gone.
func (m *Manager) count(env filter.Env) {
	c, release := stats.SharedUnder[counters](m.scope)
	m.counters = c
	env.OnRetire(release)
	if env.Parent == nil {
		return
	}
	l, release := stats.SharedUnder[byListener](env.Parent, stats.Label{Value: "http"},
		stats.Label{Name: "envoy_http_conn_manager_prefix", Value: m.spec.StatPrefix})
	m.atListener = l
	env.OnRetire(release)
}

func (m *Manager) countResponse(code int) {
	m.counters.Responses.Count(code)
	if m.atListener != nil {
		m.atListener.Responses.Count(code)
	}
}
