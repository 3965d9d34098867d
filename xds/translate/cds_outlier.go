package translate

import (
	"errors"
	"fmt"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/mecha-mesh/mecha/proxy/cluster"
	"github.com/mecha-mesh/mecha/proxy/cluster/outlier"
	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/filter/fromproto"
)

// clusterOutliers reads outlier_detection.
func clusterOutliers(pb *clusterv3.Cluster, spec *cluster.Spec, p *filter.Parser) error {
	if pb.OutlierDetection == nil {
		return nil
	}
	c, err := outlierConfig(pb.OutlierDetection, p)
	if err != nil {
		return filter.At("outlier_detection", err)
	}
	if spec.Type == cluster.Aggregate {
		p.Warnings = append(p.Warnings, "outlier_detection has no effect, as in Envoy: it is the business of the clusters that this one consists of")
		return nil
	}
	spec.Outlier = c
	return nil
}

func outlierConfig(pb *clusterv3.OutlierDetection, p *filter.Parser) (*outlier.Config, error) {
	if len(pb.Monitors) > 0 {
		return nil, filter.At("monitors", fmt.Errorf("this build does not support %q", pb.Monitors[0].GetName()))
	}
	if err := fromproto.Check(pb, p, fromproto.Fields{Used: []string{
		"consecutive_5xx", "interval", "base_ejection_time", "max_ejection_percent", "enforcing_consecutive_5xx",
		"enforcing_success_rate", "success_rate_minimum_hosts", "success_rate_request_volume", "success_rate_stdev_factor",
		"consecutive_gateway_failure", "enforcing_consecutive_gateway_failure", "split_external_local_origin_errors",
		"consecutive_local_origin_failure", "enforcing_consecutive_local_origin_failure", "enforcing_local_origin_success_rate",
		"failure_percentage_threshold", "enforcing_failure_percentage", "enforcing_failure_percentage_local_origin",
		"failure_percentage_minimum_hosts", "failure_percentage_request_volume", "max_ejection_time", "max_ejection_time_jitter",
		"successful_active_health_check_uneject_host", "always_eject_one_host", "detect_degraded_hosts",
	}}); err != nil {
		return nil, err
	}
	c := outlier.Default()
	if err := outlierTimes(pb, &c); err != nil {
		return nil, err
	}
	c.Consecutive[outlier.Consecutive5xx] = orDefault(pb.Consecutive_5Xx, 5)
	c.Consecutive[outlier.ConsecutiveGateway] = orDefault(pb.ConsecutiveGatewayFailure, 5)
	c.Consecutive[outlier.ConsecutiveLocal] = orDefault(pb.ConsecutiveLocalOriginFailure, 5)
	e := &c.Enforcing
	e[outlier.Consecutive5xx] = orDefault(pb.EnforcingConsecutive_5Xx, e[outlier.Consecutive5xx])
	e[outlier.ConsecutiveGateway] = orDefault(pb.EnforcingConsecutiveGatewayFailure, e[outlier.ConsecutiveGateway])
	e[outlier.SuccessRate] = orDefault(pb.EnforcingSuccessRate, e[outlier.SuccessRate])
	e[outlier.ConsecutiveLocal] = orDefault(pb.EnforcingConsecutiveLocalOriginFailure, e[outlier.ConsecutiveLocal])
	e[outlier.SuccessRateLocal] = orDefault(pb.EnforcingLocalOriginSuccessRate, e[outlier.SuccessRateLocal])
	e[outlier.FailurePercentage] = orDefault(pb.EnforcingFailurePercentage, 0)
	e[outlier.FailurePercentageLocal] = orDefault(pb.EnforcingFailurePercentageLocalOrigin, 0)
	c.MaxPercent = orDefault(pb.MaxEjectionPercent, c.MaxPercent)
	c.AlwaysOne, c.Split = pb.AlwaysEjectOneHost.GetValue(), pb.SplitExternalLocalOriginErrors
	c.RateHosts = orDefault(pb.SuccessRateMinimumHosts, c.RateHosts)
	c.RateVolume = orDefault(pb.SuccessRateRequestVolume, c.RateVolume)
	c.RateFactor = orDefault(pb.SuccessRateStdevFactor, c.RateFactor)
	c.FailureThreshold = orDefault(pb.FailurePercentageThreshold, c.FailureThreshold)
	c.FailureHosts = orDefault(pb.FailurePercentageMinimumHosts, c.FailureHosts)
	c.FailureRequests = orDefault(pb.FailurePercentageRequestVolume, c.FailureRequests)
	c.Degraded = pb.DetectDegradedHosts.GetValue()
	if v := pb.SuccessfulActiveHealthCheckUnejectHost; v != nil {
		c.KeepOnCheck = !v.Value
	}
	return &c, nil
}

func outlierTimes(pb *clusterv3.OutlierDetection, c *outlier.Config) error {
	for _, t := range []struct {
		name string
		pb   *durationpb.Duration
		into *time.Duration
	}{
		{"interval", pb.Interval, &c.Interval}, {"base_ejection_time", pb.BaseEjectionTime, &c.BaseEjection},
		{"max_ejection_time", pb.MaxEjectionTime, &c.MaxEjection}, {"max_ejection_time_jitter", pb.MaxEjectionTimeJitter, &c.Jitter},
	} {
		var err error
		if *t.into, err = fromproto.Duration(t.pb, *t.into); err != nil {
			return filter.At(t.name, err)
		}
	}
	if pb.MaxEjectionTime == nil {
		c.MaxEjection = max(c.MaxEjection, c.BaseEjection)
	}
	if c.MaxEjection < c.BaseEjection {
		return filter.At("max_ejection_time", errors.New("must not be less than base_ejection_time"))
	}
	return nil
}
