// Package outlier decides by the answers of hosts which of them are to be left alone for
// a while (envoy.config.cluster.v3.OutlierDetection).
//
// It knows monitors, one for each host, and says who is out; what that means for load
// balancing is package cluster's. Time comes with each sweep.
package outlier

import (
	"time"

	"github.com/mecha-mesh/mecha/proxy/runtime"
)

// Kind is why a host is ejected (envoy.data.cluster.v3.OutlierEjectionType).
type Kind uint8

// The kinds, in the order of the enumeration.
const (
	Consecutive5xx Kind = iota
	ConsecutiveGateway
	SuccessRate
	ConsecutiveLocal
	SuccessRateLocal
	FailurePercentage
	FailurePercentageLocal
	kinds
)

// String returns the name in the enumeration.
func (k Kind) String() string {
	return [...]string{
		"CONSECUTIVE_5XX", "CONSECUTIVE_GATEWAY_FAILURE", "SUCCESS_RATE", "CONSECUTIVE_LOCAL_ORIGIN_FAILURE",
		"SUCCESS_RATE_LOCAL_ORIGIN", "FAILURE_PERCENTAGE", "FAILURE_PERCENTAGE_LOCAL_ORIGIN",
	}[k]
}

// Config is OutlierDetection. Runtime keys outlier_detection.* override its numbers.
type Config struct {
	Interval     time.Duration // between sweeps, 10 s unless set
	BaseEjection time.Duration // base_ejection_time, 30 s unless set
	MaxEjection  time.Duration // max_ejection_time, BaseEjection or more
	Jitter       time.Duration // max_ejection_time_jitter

	// Consecutive are how many failures in a row eject: of Consecutive5xx,
	// ConsecutiveGateway and ConsecutiveLocal. 5 unless set, 0 is never.
	Consecutive [kinds]uint32
	Enforcing   [kinds]uint32 // enforcing_*, percent of the detections that eject
	MaxPercent  uint32        // max_ejection_percent of the hosts, 10 unless set
	AlwaysOne   bool          // always_eject_one_host
	Split       bool          // split_external_local_origin_errors

	RateHosts, RateVolume uint32 // success_rate_minimum_hosts, success_rate_request_volume
	RateFactor            uint32 // success_rate_stdev_factor, in thousandths

	FailureThreshold              uint32 // failure_percentage_threshold
	FailureHosts, FailureRequests uint32 // failure_percentage_minimum_hosts, failure_percentage_request_volume

	KeepOnCheck bool // successful_active_health_check_uneject_host is false
	Degraded    bool // detect_degraded_hosts

	// HalfOpen puts a host that comes back on trial; nil: it comes back as it was. It is not
	// Envoy's.
	HalfOpen *HalfOpen
}

// HalfOpen is the trial of a host that comes back from an ejection: it gets only so many
// requests at a time until enough of them in a row have succeeded. One that fails ejects
// it again, whatever enforcing_* say.
type HalfOpen struct {
	Requests  uint32 // at a time, at least 1
	Successes uint32 // at least 1
}

// Default is an OutlierDetection with nothing set.
func Default() Config {
	return Config{
		Interval: 10 * time.Second, BaseEjection: 30 * time.Second, MaxEjection: 300 * time.Second,
		Consecutive: [kinds]uint32{Consecutive5xx: 5, ConsecutiveGateway: 5, ConsecutiveLocal: 5},
		Enforcing:   [kinds]uint32{Consecutive5xx: 100, SuccessRate: 100, ConsecutiveLocal: 100, SuccessRateLocal: 100},
		MaxPercent:  10,
		RateHosts:   5, RateVolume: 100, RateFactor: 1900,
		FailureThreshold: 85, FailureHosts: 5, FailureRequests: 50,
	}
}

// values are the numbers of a configuration as the runtime has them.
type values struct {
	interval, base, longest, jitter  runtime.UintValue // in milliseconds
	consecutive                      [kinds]runtime.UintValue
	enforcing                        [kinds]runtime.FractionValue
	percent                          runtime.UintValue
	rateHosts, rateVolume, factor    runtime.UintValue
	failure, failHosts, failRequests runtime.UintValue
}

func (c *Config) on(r *runtime.Runtime) *values {
	number := func(key string, n uint64) runtime.UintValue {
		return runtime.UintSetting{Key: "outlier_detection." + key, Default: n}.On(r)
	}
	length := func(key string, d time.Duration) runtime.UintValue { return number(key, uint64(d.Milliseconds())) }
	v := &values{
		interval: length("interval_ms", c.Interval), base: length("base_ejection_time_ms", c.BaseEjection),
		longest: length("max_ejection_time_ms", c.MaxEjection), jitter: length("max_ejection_time_jitter_ms", c.Jitter),
		percent:      number("max_ejection_percent", uint64(c.MaxPercent)),
		rateHosts:    number("success_rate_minimum_hosts", uint64(c.RateHosts)),
		rateVolume:   number("success_rate_request_volume", uint64(c.RateVolume)),
		factor:       number("success_rate_stdev_factor", uint64(c.RateFactor)),
		failure:      number("failure_percentage_threshold", uint64(c.FailureThreshold)),
		failHosts:    number("failure_percentage_minimum_hosts", uint64(c.FailureHosts)),
		failRequests: number("failure_percentage_request_volume", uint64(c.FailureRequests)),
	}
	for k, name := range [...]string{
		Consecutive5xx: "consecutive_5xx", ConsecutiveGateway: "consecutive_gateway_failure", SuccessRate: "success_rate",
		ConsecutiveLocal: "consecutive_local_origin_failure", SuccessRateLocal: "local_origin_success_rate",
		FailurePercentage: "failure_percentage", FailurePercentageLocal: "failure_percentage_local_origin",
	} {
		v.consecutive[k] = number(name, uint64(c.Consecutive[k]))
		v.enforcing[k] = runtime.FractionSetting{
			Key: "outlier_detection.enforcing_" + name, Default: runtime.Fraction{Numerator: c.Enforcing[k], Denominator: 100},
		}.On(r)
	}
	return v
}

// milliseconds is a value that a year bounds, so that sums of it stay what they are.
func milliseconds(v runtime.UintValue) time.Duration {
	const year = 365 * 24 * time.Hour
	return time.Duration(min(v.Get(), uint64(year/time.Millisecond))) * time.Millisecond
}
