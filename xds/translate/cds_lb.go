package translate

import (
	"errors"
	"fmt"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"

	"github.com/mecha-mesh/mecha/proxy/cluster"
	"github.com/mecha-mesh/mecha/proxy/cluster/lb"
	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/filter/fromproto"
	"github.com/mecha-mesh/mecha/proxy/runtime"
)

// clusterBalance translates how hosts are chosen: by load_balancing_policy, or by
// lb_policy and the fields beside it.
func clusterBalance(pb *clusterv3.Cluster, spec *cluster.Spec, p *filter.Parser) (err error) {
	if err = commonLB(pb.CommonLbConfig, spec, p); err != nil {
		return filter.At("common_lb_config", err)
	}
	if pb.LoadBalancingPolicy != nil {
		err = onlyPolicy(pb)
		if err == nil {
			var policy *cluster.Policy
			if policy, err = policyOf(pb.LoadBalancingPolicy, p); err == nil {
				spec.Policy = *policy
			}
		}
		err = filter.At("load_balancing_policy", err)
	} else {
		err = legacyPolicy(pb, spec, p)
	}
	if err != nil {
		return err
	}
	provided := spec.Policy.Kind == cluster.ClusterProvided
	own := spec.Type == cluster.OriginalDestination || spec.Type == cluster.DynamicForward || spec.Type == cluster.Aggregate
	if own != provided {
		at, is := "lb_policy", "CLUSTER_PROVIDED"
		if pb.LoadBalancingPolicy != nil {
			at, is = "load_balancing_policy", "cluster_provided"
		}
		if own {
			return filter.At(at, fmt.Errorf("a cluster of this type (ORIGINAL_DST, dynamic_forward_proxy, aggregate) needs %s", is))
		}
		return filter.At(at, fmt.Errorf("%s is for clusters of type ORIGINAL_DST, dynamic_forward_proxy and aggregate", is))
	}
	return nil
}

// onlyPolicy refuses what load_balancing_policy says itself.
func onlyPolicy(pb *clusterv3.Cluster) error {
	c := pb.CommonLbConfig
	switch {
	case pb.LbSubsetConfig != nil:
		return errors.New("cannot be combined with lb_subset_config")
	case c.GetZoneAwareLbConfig() != nil, c.GetLocalityWeightedLbConfig() != nil, c.GetConsistentHashingLbConfig() != nil:
		return errors.New("cannot be combined with zone_aware_lb_config, locality_weighted_lb_config or consistent_hashing_lb_config of common_lb_config")
	}
	return nil
}

func commonLB(pb *clusterv3.Cluster_CommonLbConfig, spec *cluster.Spec, p *filter.Parser) (err error) {
	statuses := []corev3.HealthStatus{corev3.HealthStatus_UNKNOWN, corev3.HealthStatus_HEALTHY, corev3.HealthStatus_DEGRADED}
	if s := pb.GetOverrideHostStatus(); s != nil {
		statuses = s.Statuses
	}
	for _, s := range statuses {
		spec.OverrideStatus = spec.OverrideStatus.With(healthOf(s))
	}
	if pb == nil {
		return nil
	}
	spec.CloseOnChange = pb.CloseConnectionsOnHostSetChange
	if spec.MergeWindow, err = fromproto.Duration(pb.UpdateMergeWindow, 0); err != nil {
		return filter.At("update_merge_window", err)
	}
	if v := pb.HealthyPanicThreshold; v != nil {
		spec.PanicThreshold = v.Value
	}
	return fromproto.Check(pb, p, fromproto.Fields{
		Used: []string{
			"ignore_new_hosts_until_first_hc",
			"healthy_panic_threshold", "zone_aware_lb_config", "locality_weighted_lb_config", "override_host_status",
			"consistent_hashing_lb_config", "close_connections_on_host_set_change", "update_merge_window",
		},
	})
}

// legacyPolicy translates lb_policy.
func legacyPolicy(pb *clusterv3.Cluster, spec *cluster.Spec, p *filter.Parser) (err error) {
	policy := &spec.Policy
	policy.Locality = legacyLocality(pb.CommonLbConfig)
	h := pb.GetCommonLbConfig().GetConsistentHashingLbConfig()
	if h.GetUseHostnameForHashing() && spec.Type != cluster.StrictDNS {
		return filter.At("common_lb_config.consistent_hashing_lb_config.use_hostname_for_hashing", errors.New("is for clusters of type STRICT_DNS"))
	}
	policy.Hashing = cluster.Hashing{Hostname: h.GetUseHostnameForHashing(), BalanceFactor: h.GetHashBalanceFactor().GetValue()}
	switch pb.LbPolicy {
	case clusterv3.Cluster_ROUND_ROBIN:
		c := pb.GetRoundRobinLbConfig()
		policy.SlowStart, err = slowStart(c.GetSlowStartConfig())
		err = filter.At("round_robin_lb_config", err)
	case clusterv3.Cluster_LEAST_REQUEST:
		c := pb.GetLeastRequestLbConfig()
		policy.Kind = cluster.LeastRequestLB
		policy.LeastRequest = leastRequest(c.GetChoiceCount(), c.GetActiveRequestBias())
		policy.SlowStart, err = slowStart(c.GetSlowStartConfig())
		err = filter.At("least_request_lb_config", err)
	case clusterv3.Cluster_RANDOM:
		policy.Kind = cluster.Random
	case clusterv3.Cluster_RING_HASH:
		c := pb.GetRingHashLbConfig()
		policy.Kind = cluster.RingHashLB
		policy.Ring, err = ringSize(c.GetMinimumRingSize(), c.GetMaximumRingSize())
		policy.Ring.Murmur2 = c.GetHashFunction() == clusterv3.Cluster_RingHashLbConfig_MURMUR_HASH_2
		err = filter.At("ring_hash_lb_config", err)
	case clusterv3.Cluster_MAGLEV:
		policy.Kind = cluster.MaglevLB
		policy.TableSize, err = tableSize(pb.GetMaglevLbConfig().GetTableSize())
		err = filter.At("maglev_lb_config", err)
	case clusterv3.Cluster_CLUSTER_PROVIDED:
		policy.Kind = cluster.ClusterProvided
		if len(pb.LbSubsetConfig.GetSubsetSelectors()) > 0 {
			return filter.At("lb_subset_config", errors.New("cannot be combined with CLUSTER_PROVIDED"))
		}
	case clusterv3.Cluster_LOAD_BALANCING_POLICY_CONFIG:
		return filter.At("load_balancing_policy", errors.New("is required with LOAD_BALANCING_POLICY_CONFIG"))
	default:
		return filter.At("lb_policy", fmt.Errorf("this build does not support %s", pb.LbPolicy))
	}
	if err != nil {
		return err
	}
	return filter.At("lb_subset_config", legacySubset(pb.LbSubsetConfig, spec, p))
}

func leastRequest(choices *wrapperspb.UInt32Value, bias *corev3.RuntimeDouble) cluster.LeastRequest {
	return cluster.LeastRequest{Choices: int(orDefault(choices, 2)), Bias: fromproto.RuntimeDouble(bias, 1)}
}

// plainLocality is what localities count for where nothing is configured.
func plainLocality() cluster.LocalityLB {
	return cluster.LocalityLB{Enabled: runtime.Fraction{Numerator: 100, Denominator: 100}, MinClusterSize: 6}
}

func legacyLocality(pb *clusterv3.Cluster_CommonLbConfig) cluster.LocalityLB {
	l := plainLocality()
	l.Weighted = pb.GetLocalityWeightedLbConfig() != nil
	if z := pb.GetZoneAwareLbConfig(); z != nil {
		zoneAware(&l, z.RoutingEnabled, z.MinClusterSize)
		l.FailTrafficOnPanic = z.FailTrafficOnPanic
	}
	return l
}

func zoneAware(l *cluster.LocalityLB, enabled *typev3.Percent, size *wrapperspb.UInt64Value) {
	if enabled != nil {
		l.Enabled.Numerator = uint32(min(100, max(0, enabled.Value)) + 0.5)
	}
	if size != nil {
		l.MinClusterSize = size.Value
	}
}

// slowStartConfig is either of the messages of that name.
type slowStartConfig interface {
	GetSlowStartWindow() *durationpb.Duration
	GetAggression() *corev3.RuntimeDouble
	GetMinWeightPercent() *typev3.Percent
}

func slowStart(pb slowStartConfig) (s cluster.SlowStart, err error) {
	if s.Window, err = fromproto.Duration(pb.GetSlowStartWindow(), 0); err != nil {
		return s, filter.At("slow_start_config.slow_start_window", err)
	}
	s.Aggression, s.MinPercent = fromproto.RuntimeDouble(pb.GetAggression(), 1), 10
	if v := pb.GetMinWeightPercent(); v != nil {
		s.MinPercent = v.Value
	}
	return s, nil
}

func ringSize(least, most *wrapperspb.UInt64Value) (lb.RingSize, error) {
	size := lb.RingSize{Min: 1024, Max: 8 << 20}
	if least != nil {
		size.Min = least.Value
	}
	if most != nil {
		size.Max = most.Value
	}
	switch {
	case size.Min > 8<<20:
		return size, filter.At("minimum_ring_size", errors.New("must be at most 8388608"))
	case size.Max > 8<<20:
		return size, filter.At("maximum_ring_size", errors.New("must be at most 8388608"))
	case size.Min > size.Max:
		return size, filter.At("minimum_ring_size", fmt.Errorf("%d is more than maximum_ring_size, %d", size.Min, size.Max))
	}
	return size, nil
}

func tableSize(pb *wrapperspb.UInt64Value) (uint64, error) {
	switch {
	case pb == nil:
		return 65537, nil
	case pb.Value > 5000011:
		return 0, filter.At("table_size", errors.New("must be at most 5000011"))
	case !lb.IsPrime(pb.Value):
		return 0, filter.At("table_size", fmt.Errorf("%d is not a prime number", pb.Value))
	}
	return pb.Value, nil
}
