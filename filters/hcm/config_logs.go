package hcm

import (
	"errors"
	"time"

	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/filter/fromproto"
	"github.com/mecha-mesh/mecha/proxy/l7"
)

// parseLogs converts access_log and what says when it is written.
func parseLogs(pb *hcmv3.HttpConnectionManager, spec *l7.Spec, p *filter.Parser) (err error) {
	if spec.Logs, err = fromproto.AccessLogs(pb.AccessLog); err != nil {
		return err
	}
	t := &spec.LogTimes
	o := pb.AccessLogOptions
	if o == nil {
		t.Start = pb.FlushAccessLogOnNewRequest               //nolint:staticcheck // deprecated, still sent
		t.Every, err = logInterval(pb.AccessLogFlushInterval) //nolint:staticcheck // deprecated, still sent
		return filter.At("access_log_flush_interval", err)
	}
	if pb.FlushAccessLogOnNewRequest || pb.AccessLogFlushInterval != nil { //nolint:staticcheck // deprecated, still sent
		return filter.At("access_log_options", errors.New("cannot be set together with access_log_flush_interval or flush_access_log_on_new_request"))
	}
	err = fromproto.Check(o, p, fromproto.Fields{Used: []string{
		"flush_access_log_on_new_request", "access_log_flush_interval", "flush_log_on_tunnel_successfully_established",
	}})
	if err != nil {
		return filter.At("access_log_options", err)
	}
	t.Start, t.Tunnel = o.FlushAccessLogOnNewRequest, o.FlushLogOnTunnelSuccessfullyEstablished
	t.Every, err = logInterval(o.AccessLogFlushInterval)
	return filter.At("access_log_options.access_log_flush_interval", err)
}

func logInterval(pb *durationpb.Duration) (time.Duration, error) {
	d, err := fromproto.PositiveDuration(pb, 0)
	if err == nil && pb != nil && d < time.Millisecond {
		err = errors.New("must be at least 1ms")
	}
	return d, err
}

func parseTracing(pb *hcmv3.HttpConnectionManager, spec *l7.Spec, p *filter.Parser) (err error) {
	spec.Tracing, err = fromproto.Tracing(pb.Tracing, p)
	return filter.At("tracing", err)
}
