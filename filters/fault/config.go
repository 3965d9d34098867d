package fault

import (
	"cmp"
	"errors"
	"math"
	"time"

	commonv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/common/fault/v3"
	faultv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/fault/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"

	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/filter/fromproto"
	"github.com/mecha-mesh/mecha/proxy/runtime"
)

// parse decodes envoy.extensions.filters.http.fault.v3.HTTPFault.
func parse(raw []byte, p *filter.Parser) (*Config, error) {
	var pb faultv3.HTTPFault
	if err := fromproto.Unmarshal(raw, &pb); err != nil {
		return nil, err
	}
	err := fromproto.Check(&pb, p, fromproto.Fields{Used: []string{
		"delay", "abort", "upstream_cluster", "headers", "downstream_nodes", "max_active_faults", "delay_percent_runtime",
		"abort_percent_runtime", "delay_duration_runtime", "abort_http_status_runtime", "max_active_faults_runtime",
		"abort_grpc_status_runtime", "disable_downstream_cluster_stats", "filter_metadata", "response_rate_limit",
		"response_rate_limit_percent_runtime",
	}})
	if err != nil {
		return nil, err
	}
	c := &Config{Cluster: pb.UpstreamCluster, ByDownstream: !pb.DisableDownstreamClusterStats, Metadata: pb.FilterMetadata.AsMap()}
	for _, node := range pb.DownstreamNodes {
		if c.Nodes == nil {
			c.Nodes = map[string]bool{}
		}
		c.Nodes[node] = true
	}
	if c.Headers, err = fromproto.Headers("headers", pb.Headers); err != nil {
		return nil, err
	}
	most := uint64(math.MaxUint64)
	if pb.MaxActiveFaults != nil {
		most = uint64(pb.MaxActiveFaults.Value)
	}
	c.Most = number64(cmp.Or(pb.MaxActiveFaultsRuntime, "fault.http.max_active_faults"), most, p).value
	if c.Delay, err = delay(&pb, p); err != nil {
		return nil, filter.At("delay", err)
	}
	if c.Rate, err = rate(&pb, p); err != nil {
		return nil, filter.At("response_rate_limit", err)
	}
	c.Abort, err = abort(&pb, p)
	return c, filter.At("abort", err)
}

func number64(key string, def uint64, p *filter.Parser) setting {
	on := func(def uint64) runtime.UintValue { return runtime.UintSetting{Key: key, Default: def}.On(p.Runtime) }
	return setting{value: on(def), key: on, def: def}
}

func share(key string, pb *typev3.FractionalPercent, p *filter.Parser) percent {
	def := fromproto.Fraction(pb)
	return percent{value: runtime.FractionSetting{Key: key, Default: def}.On(p.Runtime), def: def}
}

func delay(pb *faultv3.HTTPFault, p *filter.Parser) (*Delay, error) {
	if pb.Delay == nil {
		return nil, nil
	}
	d := &Delay{Percent: share(cmp.Or(pb.DelayPercentRuntime, "fault.http.delay.fixed_delay_percent"), pb.Delay.Percentage, p)}
	ms := uint64(0)
	switch m := pb.Delay.FaultDelaySecifier.(type) {
	case *commonv3.FaultDelay_FixedDelay:
		fixed, err := fromproto.PositiveDuration(m.FixedDelay, 0)
		if err != nil {
			return nil, filter.At("fixed_delay", err)
		}
		ms = uint64(fixed / time.Millisecond)
	case *commonv3.FaultDelay_HeaderDelay_:
		d.ByHeader = true
	default:
		return nil, errors.New("one of fixed_delay, header_delay must be set")
	}
	d.Millis = number64(cmp.Or(pb.DelayDurationRuntime, "fault.http.delay.fixed_duration_ms"), ms, p)
	return d, nil
}

func rate(pb *faultv3.HTTPFault, p *filter.Parser) (*Rate, error) {
	if pb.ResponseRateLimit == nil {
		return nil, nil
	}
	r := &Rate{Percent: share(cmp.Or(pb.ResponseRateLimitPercentRuntime, "fault.http.rate_limit.response_percent"), pb.ResponseRateLimit.Percentage, p)}
	switch m := pb.ResponseRateLimit.LimitType.(type) {
	case *commonv3.FaultRateLimit_FixedLimit_:
		r.KiB = m.FixedLimit.GetLimitKbps()
	case *commonv3.FaultRateLimit_HeaderLimit_:
		r.ByHeader = true
	default:
		return nil, errors.New("one of fixed_limit, header_limit must be set")
	}
	return r, nil
}

func abort(pb *faultv3.HTTPFault, p *filter.Parser) (*Abort, error) {
	if pb.Abort == nil {
		return nil, nil
	}
	a := &Abort{
		Percent: share(cmp.Or(pb.AbortPercentRuntime, "fault.http.abort.abort_percent"), pb.Abort.Percentage, p),
		Body:    cmp.Or(pb.Abort.ResponseBody, "fault filter abort"),
	}
	var status, grpc uint64
	switch m := pb.Abort.ErrorType.(type) {
	case *faultv3.FaultAbort_HttpStatus:
		status = uint64(m.HttpStatus)
	case *faultv3.FaultAbort_GrpcStatus:
		if grpc = uint64(m.GrpcStatus); grpc == 0 {
			return nil, filter.At("grpc_status", errors.New("0 is no error"))
		}
	case *faultv3.FaultAbort_HeaderAbort_:
		a.ByHeader = true
	default:
		return nil, errors.New("one of http_status, grpc_status, header_abort must be set")
	}
	a.HTTP = number64(cmp.Or(pb.AbortHttpStatusRuntime, "fault.http.abort.http_status"), status, p)
	a.GRPC = number64(cmp.Or(pb.AbortGrpcStatusRuntime, "fault.http.abort.grpc_status"), grpc, p)
	return a, nil
}
