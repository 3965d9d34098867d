package connectionlimit

import (
	"errors"
	"fmt"
	"math"

	connectionlimitv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/connection_limit/v3"

	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/filter/fromproto"
)

// parse decodes envoy.extensions.filters.network.connection_limit.v3.ConnectionLimit.
func parse(raw []byte, p *filter.Parser) (*Config, error) {
	var pb connectionlimitv3.ConnectionLimit
	if err := fromproto.Unmarshal(raw, &pb); err != nil {
		return nil, err
	}
	err := fromproto.Check(&pb, p, fromproto.Fields{Used: []string{"stat_prefix", "max_connections", "delay", "runtime_enabled"}})
	if err != nil {
		return nil, err
	}
	c := &Config{StatPrefix: pb.StatPrefix, Enabled: fromproto.RuntimeFlag(pb.RuntimeEnabled, true)}
	switch n := pb.MaxConnections.GetValue(); {
	case pb.StatPrefix == "":
		return nil, filter.At("stat_prefix", errors.New("must not be empty"))
	case n == 0:
		return nil, filter.At("max_connections", errors.New("must be at least 1"))
	case n > math.MaxInt64:
		return nil, filter.At("max_connections", fmt.Errorf("%d is more than %d", n, int64(math.MaxInt64)))
	default:
		c.Max = int64(n)
	}
	c.Delay, err = fromproto.Duration(pb.Delay, 0)
	return c, filter.At("delay", err)
}
