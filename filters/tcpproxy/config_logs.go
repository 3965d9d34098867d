package tcpproxy

import (
	"errors"
	"time"

	tcpproxyv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/tcp_proxy/v3"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/filter/fromproto"
)

// parseLogs converts access_log and what says when it is written.
func (c *Config) parseLogs(pb *tcpproxyv3.TcpProxy, p *filter.Parser) (err error) {
	if c.Logs, err = fromproto.AccessLogs(pb.AccessLog); err != nil {
		return err
	}
	old := pb.AccessLogFlushInterval != nil || pb.FlushAccessLogOnConnected //nolint:staticcheck // deprecated, still sent
	o := pb.AccessLogOptions
	if o == nil {
		c.LogTimes.Connected = pb.FlushAccessLogOnConnected         //nolint:staticcheck // deprecated, still sent
		c.LogTimes.Every, err = interval(pb.AccessLogFlushInterval) //nolint:staticcheck // deprecated, still sent
		return filter.At("access_log_flush_interval", err)
	}
	if old {
		return filter.At("access_log_options", errors.New("cannot be set together with access_log_flush_interval or flush_access_log_on_connected"))
	}
	err = fromproto.Check(o, p, fromproto.Fields{Used: []string{"access_log_flush_interval", "flush_access_log_on_connected", "flush_access_log_on_start"}})
	if err != nil {
		return filter.At("access_log_options", err)
	}
	c.LogTimes.Connected, c.LogTimes.Start = o.FlushAccessLogOnConnected, o.FlushAccessLogOnStart
	c.LogTimes.Every, err = interval(o.AccessLogFlushInterval)
	return filter.At("access_log_options.access_log_flush_interval", err)
}

func interval(pb *durationpb.Duration) (time.Duration, error) {
	d, err := fromproto.PositiveDuration(pb, 0)
	if err == nil && pb != nil && d < time.Millisecond {
		err = errors.New("must be at least 1ms")
	}
	return d, err
}
