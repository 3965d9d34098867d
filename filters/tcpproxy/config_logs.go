package tcpproxy

import (
	tcpproxyv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/tcp_proxy/v3"

	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/filter/fromproto"
)

// parseLogs converts access_log.
func (c *Config) parseLogs(pb *tcpproxyv3.TcpProxy, _ *filter.Parser) (err error) {
	c.Logs, err = fromproto.AccessLogs(pb.AccessLog)
	return err
}
