package hcm

import (
	"errors"

	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"

	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/filter/fromproto"
	"github.com/mecha-mesh/mecha/proxy/l7"
)

// parseLogs converts access_log. A log line is written when a stream ends and, if that is
// asked for, when its request has come.
func parseLogs(pb *hcmv3.HttpConnectionManager, spec *l7.Spec, p *filter.Parser) (err error) {
	if o := pb.AccessLogOptions; o != nil {
		err := fromproto.Check(o, p, fromproto.Fields{
			Used:    []string{"flush_access_log_on_new_request"},
			Ignored: []string{"access_log_flush_interval", "flush_log_on_tunnel_successfully_established"},
		})
		if err == nil && (pb.FlushAccessLogOnNewRequest || pb.AccessLogFlushInterval != nil) {
			err = errors.New("cannot be set together with access_log_flush_interval or flush_access_log_on_new_request")
		}
		if err != nil {
			return filter.At("access_log_options", err)
		}
	}
	spec.LogStart = pb.FlushAccessLogOnNewRequest || pb.AccessLogOptions.GetFlushAccessLogOnNewRequest()
	spec.Logs, err = fromproto.AccessLogs(pb.AccessLog)
	return err
}
