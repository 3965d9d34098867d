// Package adaptiveconcurrency is the HTTP filter adaptive_concurrency: it finds out how
// many requests may be under way at a time before they wait for each other, and refuses
// those beyond.
package adaptiveconcurrency

import (
	"math/rand/v2"
	"time"

	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/runtime"
	"github.com/mecha-mesh/mecha/proxy/stats"
)

// Spec describes the filter.
var Spec = filter.HTTPSpec[*Config]{
	Name:  "envoy.filters.http.adaptive_concurrency",
	Type:  "envoy.extensions.filters.http.adaptive_concurrency.v3.AdaptiveConcurrency",
	Parse: parse,
	New:   newFactory,
}

// Config is the parsed configuration of the filter.
type Config struct {
	Enabled  runtime.FlagSetting
	Status   int // of who is refused
	Gradient Gradient
}

// Gradient configures the controller (GradientControllerConfig). Shares are parts of one.
type Gradient struct {
	Percentile  float64       // sample_aggregate_percentile
	Most, Least int64         // max_concurrency_limit, min_concurrency_limit
	Update      time.Duration // concurrency_update_interval
	Interval    time.Duration // of min_rtt_calc_params; 0: Fixed is the round-trip time
	Fixed       time.Duration // fixed_value
	Requests    int64         // request_count: so many samples say something
	Jitter      float64       // of Interval
	Few         int64         // min_concurrency
	Buffer      float64
}

type counters struct {
	Blocked stats.Counter `stat:"rq_blocked" help:"requests refused because of the limit"`
	Limit   stats.Gauge   `stat:"concurrency_limit" help:"how many requests may be under way"`
	Slope   stats.Gauge   `stat:"gradient" help:"a thousand times the factor by which the limit last changed"`
	Burst   stats.Gauge   `stat:"burst_queue_size" help:"room in the limit for bursts"`
	MinRTT  stats.Gauge   `stat:"min_rtt_msecs" help:"milliseconds that a request takes that waits for no other"`
	RTT     stats.Gauge   `stat:"sample_rtt_msecs" help:"milliseconds that requests took of late"`
	Probing stats.Gauge   `stat:"min_rtt_calculation_active" help:"1 while the limit is lowered to see whether requests get faster"`
}

func newFactory(c *Config, env filter.Env) (func() filter.HTTP, error) {
	n, release := stats.SharedUnder[counters](env.Parent, stats.Label{Value: "adaptive_concurrency"}, stats.Label{Value: "gradient_controller"})
	env.OnRetire(release)
	ctl := newController(c.Gradient, n, time.Now(), rand.Float64)
	refused := &filter.Reply{Code: c.Status, Body: "reached concurrency limit", Details: "reached_concurrency_limit"}
	enabled := c.Enabled.On(env.Runtime)
	return func() filter.HTTP { return &Filter{controller: ctl, enabled: enabled, refused: refused} }, nil
}

// Filter serves one stream at a time.
type Filter struct {
	controller *controller
	enabled    runtime.FlagValue
	refused    *filter.Reply

	begin time.Time // zero: the stream is none of those under way
}

var (
	_ filter.RequestHeaders = (*Filter)(nil)
	_ filter.Done           = (*Filter)(nil)
)

// Reset implements filter.HTTP.
func (f *Filter) Reset() { f.begin = time.Time{} }

// OnRequestHeaders implements filter.RequestHeaders. Health checks are none of it: they are
// faster than other requests.
func (f *Filter) OnRequestHeaders(s *filter.Stream, _ bool) error {
	if !f.enabled.Get() || s.Meta.HealthCheck {
		return nil
	}
	if !f.controller.admit() {
		return f.refused
	}
	f.begin = s.Now()
	return nil
}

// OnDone implements filter.Done. How long a request took counts only if it has a response.
func (f *Filter) OnDone(s *filter.Stream) {
	if f.begin.IsZero() {
		return
	}
	if s.Meta.ResponseEnd == 0 {
		f.controller.cancel()
		return
	}
	f.controller.done(f.begin, s.Now())
}
