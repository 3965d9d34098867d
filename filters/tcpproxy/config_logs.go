package tcpproxy

import (
	tcpproxyv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/tcp_proxy/v3"

	"github.com/mecha-mesh/mecha/proxy/filter"
)

func (c *Config) parseLogs(_ *tcpproxyv3.TcpProxy, _ *filter.Parser) error { return nil }
