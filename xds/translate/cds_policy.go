package translate

import (
	"errors"
	"fmt"
	"strings"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	csw "github.com/envoyproxy/go-control-plane/envoy/extensions/load_balancing_policies/client_side_weighted_round_robin/v3"
	providedv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/load_balancing_policies/cluster_provided/v3"
	commonv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/load_balancing_policies/common/v3"
	leastv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/load_balancing_policies/least_request/v3"
	maglevv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/load_balancing_policies/maglev/v3"
	overridev3 "github.com/envoyproxy/go-control-plane/envoy/extensions/load_balancing_policies/override_host/v3"
	randomv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/load_balancing_policies/random/v3"
	ringv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/load_balancing_policies/ring_hash/v3"
	roundv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/load_balancing_policies/round_robin/v3"
	subsetv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/load_balancing_policies/subset/v3"
	wrrv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/load_balancing_policies/wrr_locality/v3"
	"google.golang.org/protobuf/proto"

	"github.com/mecha-mesh/mecha/proxy/cluster"
	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/filter/fromproto"
)

const policies = "envoy.extensions.load_balancing_policies."

// policyOf translates the first policy that this build has; none is an error that names
// them all.
func policyOf(pb *clusterv3.LoadBalancingPolicy, p *filter.Parser) (*cluster.Policy, error) {
	var unknown []string
	for i, one := range pb.GetPolicies() {
		c, err := fromproto.Any(one.GetTypedExtensionConfig().GetTypedConfig())
		if err != nil {
			return nil, filter.AtIndex("policies", i, filter.At("typed_extension_config.typed_config", err))
		}
		short, _ := strings.CutPrefix(c.Type, policies)
		parse := typedPolicy(short)
		if parse == nil {
			unknown = append(unknown, fmt.Sprintf("%q", c.Type))
			continue
		}
		policy := &cluster.Policy{Locality: plainLocality()}
		if err := parse(c.Value, policy, p); err != nil {
			return nil, filter.AtIndex("policies", i, filter.At("typed_extension_config.typed_config", err))
		}
		return policy, nil
	}
	if len(unknown) == 0 {
		return nil, filter.At("policies", errors.New("at least one is required"))
	}
	return nil, filter.At("policies", fmt.Errorf("this build does not support %s", strings.Join(unknown, ", ")))
}

type policyParser func([]byte, *cluster.Policy, *filter.Parser) error

// typedPolicy returns the parser of a policy by its type, nil if there is none.
func typedPolicy(short string) policyParser {
	switch short {
	case "round_robin.v3.RoundRobin":
		return typedRoundRobin
	case "least_request.v3.LeastRequest":
		return typedLeastRequest
	case "random.v3.Random":
		return typedRandom
	case "ring_hash.v3.RingHash":
		return typedRingHash
	case "maglev.v3.Maglev":
		return typedMaglev
	case "cluster_provided.v3.ClusterProvided":
		return typedProvided
	case "wrr_locality.v3.WrrLocality":
		return typedWrrLocality
	case "client_side_weighted_round_robin.v3.ClientSideWeightedRoundRobin":
		return typedClientWeighted
	case "subset.v3.Subset":
		return typedSubset
	case "override_host.v3.OverrideHost":
		return typedOverrideHost
	case "peak_ewma.v3alpha.PeakEwma":
		return typedPeakEWMA
	}
	return nil
}

func unmarshalPolicy(raw []byte, into proto.Message, p *filter.Parser, used ...string) error {
	if err := fromproto.Unmarshal(raw, into); err != nil {
		return err
	}
	return fromproto.Check(into, p, fromproto.Fields{Used: used})
}

func typedRoundRobin(raw []byte, policy *cluster.Policy, p *filter.Parser) (err error) {
	var pb roundv3.RoundRobin
	if err = unmarshalPolicy(raw, &pb, p, "slow_start_config", "locality_lb_config"); err != nil {
		return err
	}
	if policy.SlowStart, err = slowStart(pb.SlowStartConfig); err != nil {
		return err
	}
	return typedLocality(pb.LocalityLbConfig, policy, p)
}

func typedLeastRequest(raw []byte, policy *cluster.Policy, p *filter.Parser) (err error) {
	var pb leastv3.LeastRequest
	if err = unmarshalPolicy(raw, &pb, p, "choice_count", "active_request_bias", "slow_start_config", "locality_lb_config", "enable_full_scan", "selection_method"); err != nil {
		return err
	}
	policy.Kind = cluster.LeastRequestLB
	policy.LeastRequest = leastRequest(pb.ChoiceCount, pb.ActiveRequestBias)
	policy.LeastRequest.FullScan = pb.SelectionMethod == leastv3.LeastRequest_FULL_SCAN || pb.EnableFullScan.GetValue() //nolint:staticcheck // deprecated, still sent
	if policy.SlowStart, err = slowStart(pb.SlowStartConfig); err != nil {
		return err
	}
	return typedLocality(pb.LocalityLbConfig, policy, p)
}

func typedRandom(raw []byte, policy *cluster.Policy, p *filter.Parser) error {
	var pb randomv3.Random
	if err := unmarshalPolicy(raw, &pb, p, "locality_lb_config"); err != nil {
		return err
	}
	policy.Kind = cluster.Random
	return typedLocality(pb.LocalityLbConfig, policy, p)
}

func typedRingHash(raw []byte, policy *cluster.Policy, p *filter.Parser) (err error) {
	var pb ringv3.RingHash
	if err = unmarshalPolicy(raw, &pb, p, "hash_function", "minimum_ring_size", "maximum_ring_size", "use_hostname_for_hashing", "hash_balance_factor", "consistent_hashing_lb_config", "locality_weighted_lb_config"); err != nil {
		return err
	}
	policy.Kind = cluster.RingHashLB
	if policy.Ring, err = ringSize(pb.MinimumRingSize, pb.MaximumRingSize); err != nil {
		return err
	}
	policy.Ring.Murmur2 = pb.HashFunction == ringv3.RingHash_MURMUR_HASH_2
	policy.Hashing = cluster.Hashing{Hostname: pb.UseHostnameForHashing, BalanceFactor: pb.HashBalanceFactor.GetValue()} //nolint:staticcheck // deprecated, still sent
	policy.Locality.Weighted = pb.LocalityWeightedLbConfig != nil
	return typedHashing(pb.ConsistentHashingLbConfig, policy, p)
}

func typedMaglev(raw []byte, policy *cluster.Policy, p *filter.Parser) (err error) {
	var pb maglevv3.Maglev
	if err = unmarshalPolicy(raw, &pb, p, "table_size", "consistent_hashing_lb_config", "locality_weighted_lb_config"); err != nil {
		return err
	}
	policy.Kind = cluster.MaglevLB
	if policy.TableSize, err = tableSize(pb.TableSize); err != nil {
		return err
	}
	policy.Locality.Weighted = pb.LocalityWeightedLbConfig != nil
	return typedHashing(pb.ConsistentHashingLbConfig, policy, p)
}

func typedHashing(pb *commonv3.ConsistentHashingLbConfig, policy *cluster.Policy, p *filter.Parser) error {
	if pb == nil {
		return nil
	}
	policy.Hashing = cluster.Hashing{Hostname: pb.UseHostnameForHashing, BalanceFactor: pb.HashBalanceFactor.GetValue()}
	return filter.At("consistent_hashing_lb_config", fromproto.Check(pb, p, fromproto.Fields{Used: []string{"use_hostname_for_hashing", "hash_balance_factor"}}))
}

func typedProvided(raw []byte, policy *cluster.Policy, p *filter.Parser) error {
	policy.Kind = cluster.ClusterProvided
	return unmarshalPolicy(raw, &providedv3.ClusterProvided{}, p)
}

func typedWrrLocality(raw []byte, policy *cluster.Policy, p *filter.Parser) error {
	var pb wrrv3.WrrLocality
	if err := unmarshalPolicy(raw, &pb, p, "endpoint_picking_policy"); err != nil {
		return err
	}
	child, err := policyOf(pb.EndpointPickingPolicy, p)
	if err != nil {
		return filter.At("endpoint_picking_policy", err)
	}
	if child.Kind != cluster.ClientWeightedLB { // as Envoy, for now
		return filter.At("endpoint_picking_policy", errors.New("must be client_side_weighted_round_robin"))
	}
	*policy = *child
	policy.Locality.Weighted = true
	return nil
}

func typedLocality(pb *commonv3.LocalityLbConfig, policy *cluster.Policy, p *filter.Parser) error {
	l := &policy.Locality
	l.Weighted = pb.GetLocalityWeightedLbConfig() != nil
	z := pb.GetZoneAwareLbConfig()
	if z == nil {
		return nil
	}
	zoneAware(l, z.RoutingEnabled, z.MinClusterSize)
	l.FailTrafficOnPanic, l.Direct = z.FailTrafficOnPanic, z.ForceLocalityDirectRouting //nolint:staticcheck // deprecated, still sent
	if f := z.ForceLocalZone; f != nil {
		l.ForceLocal = orDefault(f.MinSize, 1)
	}
	l.ByHostWeight = z.LocalityBasis == commonv3.LocalityLbConfig_ZoneAwareLbConfig_HEALTHY_HOSTS_WEIGHT
	return filter.At("locality_lb_config.zone_aware_lb_config", fromproto.Check(z, p, fromproto.Fields{Used: []string{
		"routing_enabled", "min_cluster_size", "fail_traffic_on_panic", "force_locality_direct_routing", "force_local_zone", "locality_basis",
	}}))
}

func typedClientWeighted(raw []byte, policy *cluster.Policy, p *filter.Parser) (err error) {
	var pb csw.ClientSideWeightedRoundRobin
	if err = unmarshalPolicy(raw, &pb, p, "enable_oob_load_report", "blackout_period", "weight_expiration_period", "weight_update_period", "error_utilization_penalty", "metric_names_for_computing_utilization", "slow_start_config"); err != nil {
		return err
	}
	if pb.EnableOobLoadReport.GetValue() {
		return filter.At("enable_oob_load_report", errors.New("this build takes load reports from responses only"))
	}
	r := &policy.Reports
	policy.Kind = cluster.ClientWeightedLB
	if r.Blackout, err = fromproto.Duration(pb.BlackoutPeriod, 10*time.Second); err != nil {
		return filter.At("blackout_period", err)
	}
	if r.Expiration, err = fromproto.Duration(pb.WeightExpirationPeriod, 3*time.Minute); err != nil {
		return filter.At("weight_expiration_period", err)
	}
	if r.Update, err = fromproto.Duration(pb.WeightUpdatePeriod, time.Second); err != nil {
		return filter.At("weight_update_period", err)
	}
	r.Update = max(r.Update, 100*time.Millisecond)
	r.ErrorPenalty, r.Metrics = 1, pb.MetricNamesForComputingUtilization
	if v := pb.ErrorUtilizationPenalty; v != nil {
		r.ErrorPenalty = float64(v.Value)
	}
	policy.SlowStart, err = slowStart(pb.SlowStartConfig)
	return err
}

func typedSubset(raw []byte, policy *cluster.Policy, p *filter.Parser) (err error) {
	var pb subsetv3.Subset
	if err = unmarshalPolicy(raw, &pb, p, "fallback_policy", "default_subset", "subset_selectors", "allow_redundant_keys", "locality_weight_aware", "scale_locality_weight", "panic_mode_any", "list_as_any", "metadata_fallback_policy", "subset_lb_policy"); err != nil {
		return err
	}
	if policy.Child, err = policyOf(pb.SubsetLbPolicy, p); err != nil {
		return filter.At("subset_lb_policy", err)
	}
	policy.Kind = cluster.SubsetLB
	policy.Subset = &cluster.Subset{
		Fallback: cluster.NoFallback + cluster.SubsetFallback(pb.FallbackPolicy), Default: cluster.NewLabels(pb.DefaultSubset.AsMap()),
		LocalityWeightAware: pb.LocalityWeightAware, ScaleLocalityWeight: pb.ScaleLocalityWeight, PanicModeAny: pb.PanicModeAny,
		ListAsAny: pb.ListAsAny, AllowRedundantKeys: pb.AllowRedundantKeys,
		FallbackList: pb.MetadataFallbackPolicy == subsetv3.Subset_FALLBACK_LIST,
	}
	for i, s := range pb.SubsetSelectors {
		sel, err := selector(s, int32(s.FallbackPolicy))
		if err != nil {
			return filter.AtIndex("subset_selectors", i, err)
		}
		policy.Subset.Selectors = append(policy.Subset.Selectors, sel)
	}
	return nil
}

func typedOverrideHost(raw []byte, policy *cluster.Policy, p *filter.Parser) (err error) {
	var pb overridev3.OverrideHost
	if err = unmarshalPolicy(raw, &pb, p, "override_host_sources", "fallback_policy"); err != nil {
		return err
	}
	policy.Kind = cluster.OverrideHostLB
	for i, s := range pb.OverrideHostSources {
		src := cluster.OverrideSource{Header: strings.ToLower(s.Header), Namespace: s.GetMetadata().GetKey()}
		for _, segment := range s.GetMetadata().GetPath() {
			src.Path = append(src.Path, segment.GetKey())
		}
		if (s.Header != "") == (s.Metadata != nil) {
			return filter.AtIndex("override_host_sources", i, errors.New("either header or metadata is required"))
		}
		policy.Override = append(policy.Override, src)
	}
	if len(policy.Override) == 0 {
		return filter.At("override_host_sources", errors.New("at least one is required"))
	}
	policy.Child, err = policyOf(pb.FallbackPolicy, p)
	return filter.At("fallback_policy", err)
}
