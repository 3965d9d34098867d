package cluster

import (
	"time"

	"github.com/mecha-mesh/mecha/proxy/cluster/lb"
	"github.com/mecha-mesh/mecha/proxy/runtime"
)

// LB is a load balancing policy.
type LB uint8

// The policies. SubsetLB and OverrideHostLB leave the choice among the hosts that they
// find to another one.
const (
	RoundRobin LB = iota
	LeastRequestLB
	Random
	RingHashLB
	MaglevLB
	ClientWeightedLB
	PeakEWMALB
	SubsetLB
	OverrideHostLB
	ClusterProvided
)

// Policy is a load balancing policy with its settings, those of other kinds being
// zero.
type Policy struct {
	Kind         LB
	Locality     LocalityLB
	SlowStart    SlowStart // RoundRobin, LeastRequestLB, ClientWeightedLB
	LeastRequest LeastRequest
	Ring         lb.RingSize // RingHashLB
	TableSize    uint64      // MaglevLB, a prime number
	Hashing      Hashing     // RingHashLB, MaglevLB
	Reports      LoadReports // ClientWeightedLB
	Latency      Latency     // PeakEWMALB
	Subset       *Subset
	Override     []OverrideSource
	Child        *Policy // of SubsetLB and OverrideHostLB
}

// UsesHash reports whether the choice of a host depends on the hash of a request.
func (p *Policy) UsesHash() bool {
	for ; p != nil; p = p.Child {
		if p.Kind == RingHashLB || p.Kind == MaglevLB {
			return true
		}
	}
	return false
}

// LocalityLB says how localities count (LocalityLbConfig).
type LocalityLB struct {
	Weighted bool // locality_weighted_lb_config: a locality is chosen by its weight first
	// What follows is zone_aware_lb_config, for clusters of a proxy whose own cluster is
	// known.
	Enabled            runtime.Fraction // routing_enabled, of requests; overridden by upstream.zone_routing.enabled
	MinClusterSize     uint64           // 6 unless set
	FailTrafficOnPanic bool
	Direct             bool   // force_locality_direct_routing
	ForceLocal         uint32 // force_local_zone.min_size: with so many hosts nearby nobody goes further; 0 is off
	ByHostWeight       bool   // locality_basis HEALTHY_HOSTS_WEIGHT
}

// LeastRequest configures LeastRequestLB.
type LeastRequest struct {
	Choices  int                   // choice_count, 2 unless set
	Bias     runtime.DoubleSetting // active_request_bias, 1 unless set
	FullScan bool                  // selection_method FULL_SCAN
}

// SlowStart lets a host that is new, or healthy again, begin with less load. A Window of
// 0 is none.
type SlowStart struct {
	Window     time.Duration
	Aggression runtime.DoubleSetting // 1 unless set
	MinPercent float64               // min_weight_percent, 10 unless set
}

// Hashing is consistent_hashing_lb_config.
type Hashing struct {
	Hostname      bool   // use_hostname_for_hashing
	BalanceFactor uint32 // hash_balance_factor in percent, 0 is no bound
}

// LoadReports configures ClientWeightedLB.
type LoadReports struct {
	Blackout     time.Duration // blackout_period, 10 s unless set
	Expiration   time.Duration // weight_expiration_period, 3 min unless set
	Update       time.Duration // weight_update_period, 1 s unless set
	ErrorPenalty float64       // error_utilization_penalty, 1 unless set
	Metrics      []string      // metric_names_for_computing_utilization
}

// Latency configures PeakEWMALB.
type Latency struct {
	Decay   time.Duration // decay_time, 10 s unless set
	Default time.Duration // default_rtt, for hosts without an answer yet
	Penalty float64       // penalty_value, the cost of a busy host without an answer yet
}
