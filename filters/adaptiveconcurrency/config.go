package adaptiveconcurrency

import (
	"errors"
	"time"

	adaptivev3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/adaptive_concurrency/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/filter/fromproto"
)

// parse decodes envoy.extensions.filters.http.adaptive_concurrency.v3.AdaptiveConcurrency.
func parse(raw []byte, p *filter.Parser) (*Config, error) {
	var pb adaptivev3.AdaptiveConcurrency
	if err := fromproto.Unmarshal(raw, &pb); err != nil {
		return nil, err
	}
	err := fromproto.Check(&pb, p, fromproto.Fields{Used: []string{
		"gradient_controller_config", "enabled", "concurrency_limit_exceeded_status",
	}})
	if err != nil {
		return nil, err
	}
	c := &Config{Enabled: fromproto.RuntimeFlag(pb.Enabled, true), Status: 503}
	if code := int(pb.ConcurrencyLimitExceededStatus.GetCode()); code >= 400 {
		c.Status = code
	}
	c.Gradient, err = gradient(pb.GetGradientControllerConfig(), p)
	return c, filter.At("gradient_controller_config", err)
}

func gradient(pb *adaptivev3.GradientControllerConfig, p *filter.Parser) (g Gradient, err error) {
	err = fromproto.Check(pb, p, fromproto.Fields{Used: []string{"sample_aggregate_percentile", "concurrency_limit_params", "min_rtt_calc_params"}})
	if err != nil {
		return g, err
	}
	g.Percentile = percent(pb.SampleAggregatePercentile, 50)
	limit, rtt := pb.ConcurrencyLimitParams, pb.MinRttCalcParams
	g.Most = count(limit.MaxConcurrencyLimit, 1000)
	g.Few = count(rtt.MinConcurrency, 3)
	g.Least = count(limit.MinConcurrencyLimit, g.Few)
	if g.Least > g.Most {
		return g, filter.At("concurrency_limit_params", errors.New("min_concurrency_limit is more than max_concurrency_limit"))
	}
	if g.Update, err = fromproto.PositiveDuration(limit.ConcurrencyUpdateInterval, 0); err != nil {
		return g, filter.At("concurrency_limit_params.concurrency_update_interval", err)
	}
	if g.Interval, err = fromproto.Duration(rtt.Interval, 0); err != nil {
		return g, filter.At("min_rtt_calc_params.interval", err)
	}
	if g.Fixed, err = fromproto.Duration(rtt.FixedValue, 0); err != nil {
		return g, filter.At("min_rtt_calc_params.fixed_value", err)
	}
	if g.Interval == 0 && g.Fixed < time.Microsecond {
		return g, filter.At("min_rtt_calc_params", errors.New("one of interval, fixed_value must be set"))
	}
	g.Requests = count(rtt.RequestCount, 50)
	g.Jitter = percent(rtt.Jitter, 15)
	g.Buffer = percent(rtt.Buffer, 25)
	return g, nil
}

// percent is a part of one.
func percent(pb *typev3.Percent, def float64) float64 {
	if pb != nil {
		def = pb.Value
	}
	return def / 100
}

func count(pb *wrapperspb.UInt32Value, def int64) int64 {
	if pb != nil {
		return int64(pb.Value)
	}
	return def
}
