package redisproxy

import (
	"errors"
	"fmt"
	"strings"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	redisv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/redis_proxy/v3"

	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/filter/fromproto"
	"github.com/mecha-mesh/mecha/proxy/runtime"
)

// parse decodes envoy.extensions.filters.network.redis_proxy.v3.RedisProxy.
func parse(raw []byte, p *filter.Parser) (*Config, error) {
	var pb redisv3.RedisProxy
	if err := fromproto.Unmarshal(raw, &pb); err != nil {
		return nil, err
	}
	err := fromproto.Check(&pb, p, fromproto.Fields{
		Used: []string{
			"stat_prefix", "settings", "latency_in_micros", "prefix_routes", "downstream_auth_password",
			"downstream_auth_passwords", "downstream_auth_username", "faults", "custom_commands", "protocol_version",
		},
	})
	if err != nil {
		return nil, err
	}
	c := &Config{StatPrefix: pb.StatPrefix, Micros: pb.LatencyInMicros, Custom: pb.CustomCommands, Version: 2}
	if pb.ProtocolVersion == redisv3.RedisProxy_RESP3 {
		c.Version = 3
	}
	for _, f := range []func(*redisv3.RedisProxy, *filter.Parser) error{
		c.parseSettings, c.parseRoutes, c.parseUsers, c.parseFaults,
	} {
		if err := f(&pb, p); err != nil {
			return nil, err
		}
	}
	return c, nil
}

func (c *Config) parseSettings(pb *redisv3.RedisProxy, p *filter.Parser) error {
	s := pb.Settings
	err := fromproto.Check(s, p, fromproto.Fields{
		Used: []string{
			"op_timeout", "enable_hashtagging", "enable_redirection", "enable_command_stats", "read_policy",
			// What a client sends at once leaves at once: there is nothing to gather or to flush.
			"max_buffer_size_before_flush", "buffer_flush_timeout",
			// Commands are not sent to hosts that are none of the cluster.
			"max_upstream_unknown_connections",
		},
	})
	if err != nil {
		return filter.At("settings", err)
	}
	if s.ReadPolicy != redisv3.RedisProxy_ConnPoolSettings_MASTER {
		return filter.At("settings.read_policy", fmt.Errorf("this build does not support %v", s.ReadPolicy))
	}
	if c.OpTimeout, err = fromproto.PositiveDuration(s.OpTimeout, time.Second); err != nil {
		return filter.At("settings.op_timeout", err)
	}
	c.HashTags, c.Redirection, c.HostStats = s.EnableHashtagging, s.EnableRedirection, s.EnableCommandStats
	return nil
}

func (c *Config) parseRoutes(pb *redisv3.RedisProxy, p *filter.Parser) error {
	c.Routes.fold = pb.PrefixRoutes.GetCaseInsensitive()
	for i, r := range pb.PrefixRoutes.GetRoutes() {
		to, err := routeOf(r, p)
		if err == nil && !c.Routes.add(to) {
			err = filter.At("prefix", fmt.Errorf("%q is there already", r.Prefix))
		}
		if err != nil {
			return filter.At("prefix_routes", filter.AtIndex("routes", i, err))
		}
	}
	if r := pb.PrefixRoutes.GetCatchAllRoute(); r != nil {
		to, err := routeOf(r, p)
		if err != nil {
			return filter.At("prefix_routes.catch_all_route", err)
		}
		c.Routes.otherwise(to)
	}
	return nil
}

func routeOf(pb *redisv3.RedisProxy_PrefixRoutes_Route, p *filter.Parser) (*route, error) {
	err := fromproto.Check(pb, p, fromproto.Fields{
		Used: []string{"prefix", "remove_prefix", "cluster", "request_mirror_policy", "read_command_policy"},
	})
	if err != nil {
		return nil, err
	}
	to := &route{prefix: pb.Prefix, cluster: pb.Cluster, remove: pb.RemovePrefix, reads: pb.ReadCommandPolicy.GetCluster()}
	for i, m := range pb.RequestMirrorPolicy {
		if m.Cluster == "" {
			return nil, filter.AtIndex("request_mirror_policy", i, filter.At("cluster", errors.New("must not be empty")))
		}
		share := fromproto.RuntimeFractional(m.RuntimeFraction, runtime.Fraction{Numerator: 100, Denominator: 100})
		to.mirrors = append(to.mirrors, mirror{m.Cluster, share, m.ExcludeReadCommands})
	}
	return to, nil
}

func (c *Config) parseUsers(pb *redisv3.RedisProxy, _ *filter.Parser) error {
	name, err := fromproto.Password(pb.DownstreamAuthUsername)
	if err != nil {
		return filter.At("downstream_auth_username", err)
	}
	add := func(at string, d *corev3.DataSource) error {
		password, err := fromproto.Password(d)
		if err != nil {
			return filter.At(at, err)
		}
		if password != "" {
			c.Users = append(c.Users, user{name, password})
		}
		return nil
	}
	for i, d := range pb.DownstreamAuthPasswords {
		if err := add(fmt.Sprintf("downstream_auth_passwords[%d]", i), d); err != nil {
			return err
		}
	}
	if len(pb.DownstreamAuthPasswords) == 0 {
		return add("downstream_auth_password", pb.DownstreamAuthPassword) //nolint:staticcheck // deprecated, still sent
	}
	return nil
}

func (c *Config) parseFaults(pb *redisv3.RedisProxy, p *filter.Parser) error {
	for i, f := range pb.Faults {
		err := fromproto.Check(f, p, fromproto.Fields{Used: []string{"fault_type", "fault_enabled", "delay", "commands"}})
		if err != nil {
			return filter.AtIndex("faults", i, err)
		}
		to := fault{
			fails: f.FaultType == redisv3.RedisProxy_RedisFault_ERROR,
			share: fromproto.RuntimeFractional(f.FaultEnabled, runtime.Fraction{}),
		}
		if to.delay, err = fromproto.Duration(f.Delay, 0); err != nil {
			return filter.AtIndex("faults", i, filter.At("delay", err))
		}
		for _, name := range f.Commands {
			if to.names == nil {
				to.names = map[string]bool{}
			}
			to.names[strings.ToLower(name)] = true
		}
		c.Faults = append(c.Faults, to)
	}
	return nil
}
