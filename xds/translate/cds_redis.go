package translate

import (
	redisv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/redis_proxy/v3"

	"github.com/mecha-mesh/mecha/proxy/cluster"
	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/filter/fromproto"
)

// redisOptions is the type of what redis_proxy tells the hosts of a cluster first.
const redisOptions = "envoy.extensions.filters.network.redis_proxy.v3.RedisProtocolOptions"

func redisCredentials(raw []byte, spec *cluster.Spec, p *filter.Parser) error {
	var pb redisv3.RedisProtocolOptions
	if err := fromproto.Unmarshal(raw, &pb); err != nil {
		return err
	}
	if err := fromproto.Check(&pb, p, fromproto.Fields{Used: []string{"auth_password", "auth_username"}}); err != nil {
		return err
	}
	user, err := fromproto.Password(pb.AuthUsername)
	if err != nil {
		return filter.At("auth_username", err)
	}
	password, err := fromproto.Password(pb.AuthPassword)
	if err != nil {
		return filter.At("auth_password", err)
	}
	if user != "" || password != "" {
		spec.Redis = &cluster.RedisOptions{User: user, Password: password}
	}
	return nil
}
