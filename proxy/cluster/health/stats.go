package health

import "github.com/mecha-mesh/mecha/proxy/stats"

// Stats are counters under "cluster.<name>.health_check.".
type Stats struct {
	Attempt        stats.Counter `stat:"attempt" help:"Health checks."`
	Success        stats.Counter `stat:"success" help:"Health checks that hosts have passed."`
	Failure        stats.Counter `stat:"failure" help:"Health checks that hosts have failed, and answers of theirs that said so."`
	PassiveFailure stats.Counter `stat:"passive_failure" help:"Answers to requests that said that the host is not well (x-envoy-immediate-health-check-fail)."`
	NetworkFailure stats.Counter `stat:"network_failure" help:"Health checks that failed for want of an answer."`
	VerifyCluster  stats.Counter `stat:"verify_cluster" help:"Health checks that looked at the name of the cluster that has answered."`
	Healthy        stats.Gauge   `stat:"healthy" help:"Hosts that have passed their checks."`
	Degraded       stats.Gauge   `stat:"degraded" help:"Hosts that pass and say to be degraded."`
}
