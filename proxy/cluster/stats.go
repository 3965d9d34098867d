package cluster

import (
	"strings"

	"github.com/mecha-mesh/mecha/proxy/stats"
)

// Stats are a cluster's counters, under "cluster.<name>.". This package counts
// connections, the requests that a connection or a circuit breaker was asked for, and
// members; who sends requests counts what became of them: the fields from
// UpstreamRq on, the bytes, and per host RqSuccess, RqError and RqTimeout.
type Stats struct {
	neverStats // of no size; first, where it adds none

	UpstreamCxTotal                     stats.Counter   `stat:"upstream_cx_total" help:"Connections begun."`
	UpstreamCxActive                    stats.Gauge     `stat:"upstream_cx_active" help:"Connections open or being made."`
	UpstreamCxHTTP1Total                stats.Counter   `stat:"upstream_cx_http1_total" help:"HTTP/1 connections begun."`
	UpstreamCxHTTP2Total                stats.Counter   `stat:"upstream_cx_http2_total" help:"HTTP/2 connections begun."`
	UpstreamCxConnectFail               stats.Counter   `stat:"upstream_cx_connect_fail" help:"Connections that could not be made."`
	UpstreamCxConnectTimeout            stats.Counter   `stat:"upstream_cx_connect_timeout" help:"Connections that were not made within connect_timeout."`
	UpstreamCxIdleTimeout               stats.Counter   `stat:"upstream_cx_idle_timeout" help:"Connections closed because they were idle for too long."`
	UpstreamCxMaxDurationReached        stats.Counter   `stat:"upstream_cx_max_duration_reached" help:"Connections closed because they were open for too long."`
	UpstreamCxMaxRequests               stats.Counter   `stat:"upstream_cx_max_requests" help:"Connections closed because they carried enough requests."`
	UpstreamCxOverflow                  stats.Counter   `stat:"upstream_cx_overflow" help:"Times that max_connections stood in the way."`
	UpstreamCxPoolOverflow              stats.Counter   `stat:"upstream_cx_pool_overflow" help:"Requests refused by max_connection_pools."`
	UpstreamCxNoneHealthy               stats.Counter   `stat:"upstream_cx_none_healthy" help:"Times that there was no healthy host."`
	UpstreamCxDestroy                   stats.Counter   `stat:"upstream_cx_destroy" help:"Connections closed."`
	UpstreamCxDestroyLocal              stats.Counter   `stat:"upstream_cx_destroy_local" help:"Connections closed by us."`
	UpstreamCxDestroyRemote             stats.Counter   `stat:"upstream_cx_destroy_remote" help:"Connections closed by the host."`
	UpstreamCxDestroyWithActiveRq       stats.Counter   `stat:"upstream_cx_destroy_with_active_rq" help:"Connections closed in the middle of a request."`
	UpstreamCxDestroyLocalWithActiveRq  stats.Counter   `stat:"upstream_cx_destroy_local_with_active_rq" help:"Connections closed by us in the middle of a request."`
	UpstreamCxDestroyRemoteWithActiveRq stats.Counter   `stat:"upstream_cx_destroy_remote_with_active_rq" help:"Connections closed by the host in the middle of a request."`
	UpstreamCxConnectMs                 stats.Histogram `stat:"upstream_cx_connect_ms" help:"How long it took to make connections."`
	UpstreamCxLengthMs                  stats.Histogram `stat:"upstream_cx_length_ms" help:"How long connections were open."`
	UpstreamRqPerCx                     stats.Histogram `stat:"upstream_rq_per_cx" help:"Requests that connections carried."`
	BindErrors                          stats.Counter   `stat:"bind_errors" help:"Times that upstream_bind_config could not be obeyed."`

	UpstreamRqTotal               stats.Counter `stat:"upstream_rq_total" help:"Requests that got a connection."`
	UpstreamRqActive              stats.Gauge   `stat:"upstream_rq_active" help:"Requests that have a connection."`
	UpstreamRqPendingTotal        stats.Counter `stat:"upstream_rq_pending_total" help:"Requests that waited for a connection."`
	UpstreamRqPendingActive       stats.Gauge   `stat:"upstream_rq_pending_active" help:"Requests that wait for a connection."`
	UpstreamRqPendingOverflow     stats.Counter `stat:"upstream_rq_pending_overflow" help:"Requests refused by max_pending_requests."`
	UpstreamRqActiveOverflow      stats.Counter `stat:"upstream_rq_active_overflow" help:"Requests refused by max_requests."`
	UpstreamRqPendingFailureEject stats.Counter `stat:"upstream_rq_pending_failure_eject" help:"Requests whose connection could not be made."`
	UpstreamRqCancelled           stats.Counter `stat:"upstream_rq_cancelled" help:"Requests given up before they got a connection."`
	UpstreamRqRetryOverflow       stats.Counter `stat:"upstream_rq_retry_overflow" help:"Retries refused by max_retries or the retry budget."`

	MembershipChange          stats.Counter `stat:"membership_change" help:"Times that hosts came or went."`
	MembershipTotal           stats.Gauge   `stat:"membership_total" help:"Hosts."`
	MembershipHealthy         stats.Gauge   `stat:"membership_healthy" help:"Healthy hosts."`
	MembershipDegraded        stats.Gauge   `stat:"membership_degraded" help:"Degraded hosts."`
	MembershipExcluded        stats.Gauge   `stat:"membership_excluded" help:"Hosts left out of load balancing."`
	MaxHostWeight             stats.Gauge   `stat:"max_host_weight" help:"Greatest weight of a host."`
	UpdateAttempt             stats.Counter `stat:"update_attempt" help:"Lookups of names."`
	UpdateSuccess             stats.Counter `stat:"update_success" help:"Assignments taken over, lookups that succeeded."`
	UpdateFailure             stats.Counter `stat:"update_failure" help:"Lookups that failed."`
	UpdateEmpty               stats.Counter `stat:"update_empty" help:"Assignments without hosts."`
	UpdateNoRebuild           stats.Counter `stat:"update_no_rebuild" help:"Updates that changed no host."`
	AssignmentTimeoutReceived stats.Counter `stat:"assignment_timeout_received" help:"Assignments that say after which time they are stale."`
	AssignmentStale           stats.Counter `stat:"assignment_stale" help:"Times that all hosts went because no new assignment had come in time."`
	InitFetchTimeout          stats.Counter `stat:"init_fetch_timeout" help:"Times that no assignment came within initial_fetch_timeout."`

	UpstreamRqDropOverload stats.Counter `stat:"upstream_rq_drop_overload" help:"Requests refused because discovery says that the cluster is overloaded."`

	WarmingState stats.Gauge `stat:"warming_state" help:"1 while a new version of the cluster waits for its hosts."`

	LBHealthyPanic         stats.Counter `stat:"lb_healthy_panic" help:"Picks among all hosts because too few are healthy."`
	OriginalDstHostInvalid stats.Counter `stat:"original_dst_host_invalid" help:"Requests whose destination is not an address."`

	UpstreamCxRxBytesTotal stats.Counter `stat:"upstream_cx_rx_bytes_total" help:"Bytes received from hosts."`
	UpstreamCxTxBytesTotal stats.Counter `stat:"upstream_cx_tx_bytes_total" help:"Bytes sent to hosts."`

	UpstreamCxProtocolError                stats.Counter      `stat:"upstream_cx_protocol_error" help:"Connections closed because the host broke the protocol."`
	UpstreamCxConnectAttemptsExceeded      stats.Counter      `stat:"upstream_cx_connect_attempts_exceeded" help:"TCP sessions given up after max_connect_attempts."`
	UpstreamCxCloseNotify                  stats.Counter      `stat:"upstream_cx_close_notify" help:"Connections that the host asked to close."`
	UpstreamRq                             stats.CodeCounters `stat:"upstream_rq" help:"Responses, ours in place of the host's included."`
	ExternalRq                             stats.CodeCounters `stat:"external.upstream_rq" help:"Responses to requests from outside."`
	InternalRq                             stats.CodeCounters `stat:"internal.upstream_rq" help:"Responses to requests from inside."`
	CanaryRq                               stats.CodeCounters `stat:"canary.upstream_rq" help:"Responses of canary hosts."`
	RetryRq                                stats.CodeCounters `stat:"retry.upstream_rq" help:"Responses that were given up for a retry."`
	ExternalRqTime                         stats.Histogram    `stat:"external.upstream_rq_time" help:"upstream_rq_time of requests from outside."`
	InternalRqTime                         stats.Histogram    `stat:"internal.upstream_rq_time" help:"upstream_rq_time of requests from inside."`
	CanaryRqTime                           stats.Histogram    `stat:"canary.upstream_rq_time" help:"upstream_rq_time of canary hosts."`
	UpstreamRqTime                         stats.Histogram    `stat:"upstream_rq_time" help:"Milliseconds from the end of the request to the end of the response."`
	UpstreamRqTimeout                      stats.Counter      `stat:"upstream_rq_timeout" help:"Requests that ran into their timeout."`
	UpstreamRqPerTryTimeout                stats.Counter      `stat:"upstream_rq_per_try_timeout" help:"Attempts that ran into their timeout."`
	UpstreamRqPerTryIdleTimeout            stats.Counter      `stat:"upstream_rq_per_try_idle_timeout" help:"Attempts that ran into their idle timeout."`
	UpstreamRqMaxDurationReached           stats.Counter      `stat:"upstream_rq_max_duration_reached" help:"Requests that ran for too long."`
	UpstreamRqMaintenanceMode              stats.Counter      `stat:"upstream_rq_maintenance_mode" help:"Requests refused by maintenance mode."`
	UpstreamRqRxReset                      stats.Counter      `stat:"upstream_rq_rx_reset" help:"Requests reset by the host."`
	UpstreamRqTxReset                      stats.Counter      `stat:"upstream_rq_tx_reset" help:"Requests reset by us."`
	UpstreamRqRetry                        stats.Counter      `stat:"upstream_rq_retry" help:"Retries."`
	UpstreamRqRetrySuccess                 stats.Counter      `stat:"upstream_rq_retry_success" help:"Retries that succeeded."`
	UpstreamRqRetryLimitExceeded           stats.Counter      `stat:"upstream_rq_retry_limit_exceeded" help:"Requests that failed in spite of all retries."`
	UpstreamRqRetryBackoffExponential      stats.Counter      `stat:"upstream_rq_retry_backoff_exponential" help:"Retries after the exponential wait."`
	UpstreamRqRetryBackoffRatelimited      stats.Counter      `stat:"upstream_rq_retry_backoff_ratelimited" help:"Retries after the wait that the host asked for."`
	RetryOrShadowAbandoned                 stats.Counter      `stat:"retry_or_shadow_abandoned" help:"Requests whose body was too large to be sent twice."`
	UpstreamInternalRedirectSucceededTotal stats.Counter      `stat:"upstream_internal_redirect_succeeded_total" help:"Redirects followed by us."`
	UpstreamInternalRedirectFailedTotal    stats.Counter      `stat:"upstream_internal_redirect_failed_total" help:"Redirects that were passed on."`
	UpstreamFlowControlPausedReadingTotal  stats.Counter      `stat:"upstream_flow_control_paused_reading_total" help:"Times that reading from a host was paused since the client took no more"`
	UpstreamFlowControlResumedReadingTotal stats.Counter      `stat:"upstream_flow_control_resumed_reading_total" help:"Times that this was over"`
	UpstreamFlowControlBackedUpTotal       stats.Counter      `stat:"upstream_flow_control_backed_up_total" help:"Times that a host took no more"`
	UpstreamFlowControlDrainedTotal        stats.Counter      `stat:"upstream_flow_control_drained_total" help:"Times that this was over"`
}

// HostStats are a host's counters (admin /clusters). They live as long as the host is
// a member, across updates of its cluster.
type HostStats struct {
	CxTotal, CxConnectFail                 stats.Counter
	RqTotal, RqSuccess, RqError, RqTimeout stats.Counter
	CxActive, RqActive, RqPendingActive    stats.Gauge
}

// breakerStats are the gauges of one priority, under "circuit_breakers.<priority>.".
type breakerStats struct {
	CxOpen        stats.Gauge `stat:"cx_open" help:"1 while max_connections is reached."`
	CxPoolOpen    stats.Gauge `stat:"cx_pool_open" help:"1 while max_connection_pools is reached."`
	RqPendingOpen stats.Gauge `stat:"rq_pending_open" help:"1 while max_pending_requests is reached."`
	RqOpen        stats.Gauge `stat:"rq_open" help:"1 while max_requests is reached."`
	RqRetryOpen   stats.Gauge `stat:"rq_retry_open" help:"1 while no more retries are allowed."`
}

// remainingStats are there with track_remaining.
type remainingStats struct {
	Cx      stats.Gauge `stat:"remaining_cx" help:"Connections until max_connections."`
	Pools   stats.Gauge `stat:"remaining_cx_pools" help:"Pools until max_connection_pools; a very large number where there is no limit."`
	Pending stats.Gauge `stat:"remaining_pending" help:"Waiting requests until max_pending_requests."`
	Rq      stats.Gauge `stat:"remaining_rq" help:"Requests until max_requests."`
	Retries stats.Gauge `stat:"remaining_retries" help:"Retries until no more are allowed; 0 with a retry_budget."`
}

// managerStats are under "cluster_manager.".
type managerStats struct {
	Added            stats.Counter `stat:"cluster_added" help:"Clusters added."`
	Modified         stats.Counter `stat:"cluster_modified" help:"Clusters changed."`
	Removed          stats.Counter `stat:"cluster_removed" help:"Clusters removed."`
	Updated          stats.Counter `stat:"cluster_updated" help:"Changes of hosts."`
	UpdatedViaMerge  stats.Counter `stat:"cluster_updated_via_merge" help:"Changes of hosts at the end of update_merge_window."`
	MergeCancelled   stats.Counter `stat:"update_merge_cancelled" help:"Changes that waited for update_merge_window until one came that does not wait."`
	OutOfMergeWindow stats.Counter `stat:"update_out_of_merge_window" help:"Changes that did not have to wait: the one before was longer ago than update_merge_window."`
	Active           stats.Gauge   `stat:"active_clusters" help:"Clusters that can be used."`
	Warming          stats.Gauge   `stat:"warming_clusters" help:"Clusters that wait for their hosts."`
}

// statSegment returns what a cluster is called in dotted stat names, as Envoy has it.
func statSegment(s *Spec) string {
	name := s.StatName
	if name == "" {
		name = s.Name
	}
	return strings.NewReplacer("://", "_", ":/", "_", ":", "_", "\x00", "_").Replace(name)
}
