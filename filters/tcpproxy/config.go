package tcpproxy

import (
	"errors"
	"fmt"
	"time"

	tcpproxyv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/tcp_proxy/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/mecha-mesh/mecha/proxy/cluster"
	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/filter/fromproto"
)

// fields is what of TcpProxy this build obeys.
var fields = fromproto.Fields{
	Used: []string{
		"stat_prefix", "cluster", "weighted_clusters", "idle_timeout", "access_log", "max_connect_attempts",
		"backoff_options", "hash_policy", "max_downstream_connection_duration",
		"max_downstream_connection_duration_jitter_percentage", "check_drain_close", "metadata_match", "tunneling_config",
		"access_log_flush_interval", "flush_access_log_on_connected", "access_log_options", "upstream_connect_mode",
		"proxy_protocol_tlvs", "proxy_protocol_tlv_merge_policy", "on_demand",
		// What the client sends early waits in the socket: no limit of ours is needed.
		"max_early_data_bytes",
	},
	// Envoy has not implemented the two idle timeouts.
	Ignored: []string{"downstream_idle_timeout", "upstream_idle_timeout"},
}

const defaultIdleTimeout = time.Hour

// parse decodes envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy.
func parse(raw []byte, p *filter.Parser) (*Config, error) {
	var pb tcpproxyv3.TcpProxy
	if err := proto.Unmarshal(raw, &pb); err != nil {
		return nil, fmt.Errorf("tcp_proxy: %w", err)
	}
	if err := fromproto.Check(&pb, p, fields); err != nil {
		return nil, err
	}
	if pb.StatPrefix == "" {
		return nil, filter.At("stat_prefix", errors.New("must not be empty"))
	}
	c := &Config{StatPrefix: pb.StatPrefix, IdleTimeout: defaultIdleTimeout, MaxConnectAttempts: 1}
	for _, f := range []func(*tcpproxyv3.TcpProxy, *filter.Parser) error{
		c.parseClusters, c.parseTimes, c.parseAttempts, c.parseHash, c.parseLogs, c.parseConnect, c.parseTunnel,
		c.parseOnDemand,
	} {
		if err := f(&pb, p); err != nil {
			return nil, err
		}
	}
	return c, nil
}

func (c *Config) parseClusters(pb *tcpproxyv3.TcpProxy, p *filter.Parser) error {
	match, err := metadataMatch(pb.MetadataMatch)
	if err != nil {
		return err
	}
	switch s := pb.ClusterSpecifier.(type) {
	case *tcpproxyv3.TcpProxy_Cluster:
		if s.Cluster == "" {
			return filter.At("cluster", errors.New("must not be empty"))
		}
		c.Clusters, c.total = []Weighted{{s.Cluster, 1, match}}, 1
		return nil
	case *tcpproxyv3.TcpProxy_WeightedClusters:
		return filter.At("weighted_clusters", c.parseWeighted(s.WeightedClusters, match, p))
	}
	return filter.At("cluster_specifier", errors.New("cluster or weighted_clusters must be set"))
}

func (c *Config) parseWeighted(pb *tcpproxyv3.TcpProxy_WeightedCluster, match cluster.Labels, p *filter.Parser) error {
	if len(pb.GetClusters()) == 0 {
		return filter.At("clusters", errors.New("must not be empty"))
	}
	for i, w := range pb.Clusters {
		err := fromproto.Check(w, p, fromproto.Fields{Used: []string{"name", "weight", "metadata_match"}})
		var own cluster.Labels
		if err == nil {
			own, err = metadataMatch(w.MetadataMatch)
		}
		switch {
		case err != nil:
		case w.Name == "":
			err = filter.At("name", errors.New("must not be empty"))
		case w.Weight == 0:
			err = filter.At("weight", errors.New("must be at least 1"))
		}
		if err != nil {
			return filter.AtIndex("clusters", i, err)
		}
		c.Clusters = append(c.Clusters, Weighted{w.Name, w.Weight, match.Merge(own)})
		c.total += uint64(w.Weight)
	}
	if c.total > 1<<32-1 {
		return filter.At("clusters", fmt.Errorf("the sum of the weights is %d, more than 4294967295", c.total))
	}
	return nil
}

func (c *Config) parseTimes(pb *tcpproxyv3.TcpProxy, _ *filter.Parser) error {
	for _, d := range []struct {
		name  string
		from  *durationpb.Duration
		to    *time.Duration
		least time.Duration
	}{
		{"idle_timeout", pb.IdleTimeout, &c.IdleTimeout, 0},
		{"max_downstream_connection_duration", pb.MaxDownstreamConnectionDuration, &c.MaxDuration, time.Millisecond},
	} {
		if d.from == nil {
			continue
		}
		if err := d.from.CheckValid(); err != nil {
			return filter.At(d.name, err)
		}
		if *d.to = d.from.AsDuration(); *d.to < d.least {
			return filter.At(d.name, fmt.Errorf("%v is less than %v", *d.to, d.least))
		}
	}
	if j := pb.MaxDownstreamConnectionDurationJitterPercentage; j != nil {
		if j.Value < 0 || j.Value > 100 {
			return filter.At("max_downstream_connection_duration_jitter_percentage.value", fmt.Errorf("%v is outside 0 to 100", j.Value))
		}
		c.Jitter = j.Value
	}
	c.DrainClose = pb.CheckDrainClose.GetValue()
	return nil
}

func (c *Config) parseAttempts(pb *tcpproxyv3.TcpProxy, _ *filter.Parser) error {
	if w := pb.MaxConnectAttempts; w != nil {
		if w.Value == 0 {
			return filter.At("max_connect_attempts", errors.New("must be at least 1"))
		}
		c.MaxConnectAttempts = int(w.Value)
	}
	var err error
	c.Backoff, err = fromproto.Backoff(pb.BackoffOptions)
	return filter.At("backoff_options", err)
}

func (c *Config) parseHash(pb *tcpproxyv3.TcpProxy, _ *filter.Parser) error {
	if len(pb.HashPolicy) > 1 {
		return filter.At("hash_policy", errors.New("takes one policy at most"))
	}
	for _, h := range pb.HashPolicy {
		switch s := h.PolicySpecifier.(type) {
		case *typev3.HashPolicy_SourceIp_:
			c.HashSourceIP = true
		case *typev3.HashPolicy_FilterState_:
			if c.HashState = s.FilterState.GetKey(); c.HashState == "" {
				return filter.At("hash_policy[0].filter_state.key", errors.New("must not be empty"))
			}
		default:
			return filter.At("hash_policy[0]", errors.New("one of source_ip and filter_state must be set"))
		}
	}
	return nil
}
