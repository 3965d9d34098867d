package outlier

import "github.com/mecha-mesh/mecha/proxy/stats"

// Stats are counters under "cluster.<name>.outlier_detection.".
type Stats struct {
	Active   stats.Gauge   `stat:"ejections_active" help:"Hosts that are ejected."`
	Overflow stats.Counter `stat:"ejections_overflow" help:"Ejections that max_ejection_percent did not allow."`
	Enforced stats.Counter `stat:"ejections_enforced_total" help:"Ejections."`

	Detected5xx             stats.Counter `stat:"ejections_detected_consecutive_5xx" help:"Hosts found to fail in a row."`
	DetectedGateway         stats.Counter `stat:"ejections_detected_consecutive_gateway_failure" help:"Hosts found to answer 502, 503 or 504 in a row."`
	DetectedRate            stats.Counter `stat:"ejections_detected_success_rate" help:"Hosts found to succeed less than the others."`
	DetectedLocal           stats.Counter `stat:"ejections_detected_consecutive_local_origin_failure" help:"Hosts found out of reach in a row."`
	DetectedRateLocal       stats.Counter `stat:"ejections_detected_local_origin_success_rate" help:"Hosts found to be reached less than the others."`
	DetectedPercentage      stats.Counter `stat:"ejections_detected_failure_percentage" help:"Hosts found to fail too much."`
	DetectedPercentageLocal stats.Counter `stat:"ejections_detected_local_origin_failure_percentage" help:"Hosts found out of reach too much."`
	DetectedDegradation     stats.Counter `stat:"ejections_detected_degradation" help:"Hosts that have said to be degraded."`
	Enforced5xx             stats.Counter `stat:"ejections_enforced_consecutive_5xx" help:"Ejections of hosts that fail in a row."`
	EnforcedGateway         stats.Counter `stat:"ejections_enforced_consecutive_gateway_failure" help:"Ejections of hosts that answer 502, 503 or 504 in a row."`
	EnforcedRate            stats.Counter `stat:"ejections_enforced_success_rate" help:"Ejections of hosts that succeed less than the others."`
	EnforcedLocal           stats.Counter `stat:"ejections_enforced_consecutive_local_origin_failure" help:"Ejections of hosts out of reach in a row."`
	EnforcedRateLocal       stats.Counter `stat:"ejections_enforced_local_origin_success_rate" help:"Ejections of hosts that are reached less than the others."`
	EnforcedPercentage      stats.Counter `stat:"ejections_enforced_failure_percentage" help:"Ejections of hosts that fail too much."`
	EnforcedPercentageLocal stats.Counter `stat:"ejections_enforced_local_origin_failure_percentage" help:"Ejections of hosts out of reach too much."`

	HalfOpen       stats.Gauge   `stat:"half_open" help:"Hosts that are back on trial."`
	HalfOpenPassed stats.Counter `stat:"half_open_passed" help:"Trials that hosts have passed."`
	HalfOpenFailed stats.Counter `stat:"half_open_failed" help:"Trials that ended in another ejection."`

	// What Envoy still counts under its older names.
	OldTotal stats.Counter `stat:"ejections_total" help:"Ejections by consecutive_5xx and success_rate, enforced or not."`
	Old5xx   stats.Counter `stat:"ejections_consecutive_5xx" help:"As ejections_detected_consecutive_5xx."`
	OldRate  stats.Counter `stat:"ejections_success_rate" help:"Hosts found to succeed less than the others, of either kind."`
}

func (s *Stats) of(k Kind) (detected, enforced *stats.Counter) {
	switch k {
	case Consecutive5xx:
		return &s.Detected5xx, &s.Enforced5xx
	case ConsecutiveGateway:
		return &s.DetectedGateway, &s.EnforcedGateway
	case SuccessRate:
		return &s.DetectedRate, &s.EnforcedRate
	case ConsecutiveLocal:
		return &s.DetectedLocal, &s.EnforcedLocal
	case SuccessRateLocal:
		return &s.DetectedRateLocal, &s.EnforcedRateLocal
	case FailurePercentage:
		return &s.DetectedPercentage, &s.EnforcedPercentage
	}
	return &s.DetectedPercentageLocal, &s.EnforcedPercentageLocal
}
