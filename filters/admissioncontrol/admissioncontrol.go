// Package admissioncontrol is the HTTP filter admission_control: it refuses requests by
// chance when too many of those before have failed, the more the more have, so that what
// is overloaded gets less to do.
package admissioncontrol

import (
	"math"
	"math/rand/v2"
	"strconv"
	"time"

	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/header"
	"github.com/mecha-mesh/mecha/proxy/runtime"
	"github.com/mecha-mesh/mecha/proxy/stats"
)

// Spec describes the filter.
var Spec = filter.HTTPSpec[*Config]{
	Name:  "envoy.filters.http.admission_control",
	Type:  "envoy.extensions.filters.http.admission_control.v3.AdmissionControl",
	Parse: parse,
	New:   newFactory,
}

// Config is the parsed configuration of the filter.
type Config struct {
	Enabled    runtime.FlagSetting
	Window     time.Duration         // sampling_window, at least a second
	Aggression runtime.DoubleSetting // less than 1 counts as 1
	Threshold  runtime.DoubleSetting // sr_threshold, in percent
	RPS        runtime.UintSetting   // rps_threshold
	Most       runtime.DoubleSetting // max_rejection_probability, in percent
	HTTP       []Range               // which codes are successes
	GRPC       uint32                // which statuses are: bit n is status n
}

// Range is the codes from From to before To.
type Range struct{ From, To int }

type counters struct {
	Rejected stats.Counter `stat:"rq_rejected" help:"requests that were refused"`
	Success  stats.Counter `stat:"rq_success" help:"requests that succeeded"`
	Failure  stats.Counter `stat:"rq_failure" help:"requests that failed"`
}

var denied = filter.Reply{Code: 503, Details: "denied_by_admission_control"}

// shared is what the streams of a filter have in common.
type shared struct {
	*counters
	config     *Config
	window     *stats.Recent
	enabled    runtime.FlagValue
	aggression runtime.DoubleValue
	threshold  runtime.DoubleValue
	rps        runtime.UintValue
	most       runtime.DoubleValue
	chance     func() float64 // from 0 to less than 1
}

func newFactory(c *Config, env filter.Env) (func() filter.HTTP, error) {
	sh := &shared{
		config: c, window: stats.NewRecent(c.Window, time.Second, time.Now()), chance: rand.Float64,
		enabled: c.Enabled.On(env.Runtime), aggression: c.Aggression.On(env.Runtime), threshold: c.Threshold.On(env.Runtime),
		rps: c.RPS.On(env.Runtime), most: c.Most.On(env.Runtime),
	}
	var release func()
	sh.counters, release = stats.SharedUnder[counters](env.Parent, stats.Label{Value: "admission_control"})
	env.OnRetire(release)
	return func() filter.HTTP { return &Filter{shared: sh} }, nil
}

// Filter serves one stream at a time.
type Filter struct {
	*shared
	open   bool // the request was let through, and how it ended is still to be recorded
	inTail bool // its gRPC status comes with the trailers
}

var (
	_ filter.RequestHeaders   = (*Filter)(nil)
	_ filter.ResponseHeaders  = (*Filter)(nil)
	_ filter.ResponseTrailers = (*Filter)(nil)
)

// Reset implements filter.HTTP.
func (f *Filter) Reset() { f.open, f.inTail = false, false }

// OnRequestHeaders implements filter.RequestHeaders.
func (f *Filter) OnRequestHeaders(s *filter.Stream, _ bool) error {
	if !f.enabled.Get() || s.Meta.HealthCheck {
		return nil
	}
	total, good, age := f.window.Sums(s.Now())
	if f.busy(total, age) && f.chance() < f.probability(float64(total), float64(good)) {
		f.Rejected.Inc()
		return &denied
	}
	f.open = true
	return nil
}

// busy reports whether there are enough requests for anybody to be refused.
func (f *shared) busy(total uint64, age time.Duration) bool {
	least := f.rps.Get()
	return least == 0 || total/uint64(max(age/time.Second, 1)) >= least
}

// probability is that with which the next request is refused
// (AdmissionControl.aggression).
func (f *shared) probability(total, good float64) float64 {
	p := (total - good/(max(min(f.threshold.Get(), 100), leastThreshold)/100)) / (total + 1)
	if p <= 0 {
		return 0
	}
	if a := f.aggression.Get(); a > 1 {
		p = math.Pow(p, 1/a)
	}
	return min(p, f.most.Get()/100)
}

// leastThreshold is the least sr_threshold in percent.
const leastThreshold = 1

// OnResponseHeaders implements filter.ResponseHeaders.
func (f *Filter) OnResponseHeaders(s *filter.Stream, end bool) error {
	if !f.open {
		return nil
	}
	m := &s.Response
	grpc := m.StatusCode() == 200 && filter.IsGRPC(m)
	if end {
		grpc = m.Has(header.GrpcStatus)
	}
	switch {
	case !grpc:
		f.record(s, f.config.succeeds(m.StatusCode()))
	case m.Has(header.GrpcStatus):
		f.record(s, f.config.grpcSucceeds(m.Value(header.GrpcStatus)))
	default:
		f.inTail = true
	}
	return nil
}

// OnResponseTrailers implements filter.ResponseTrailers.
func (f *Filter) OnResponseTrailers(s *filter.Stream) error {
	if f.open && f.inTail {
		f.record(s, f.config.grpcSucceeds(s.ResponseTrailers.Value(header.GrpcStatus)))
	}
	return nil
}

func (f *Filter) record(s *filter.Stream, success bool) {
	f.open = false
	if success {
		f.Success.Inc()
	} else {
		f.Failure.Inc()
	}
	f.window.Add(s.Now(), success)
}

func (c *Config) succeeds(code int) bool {
	for _, r := range c.HTTP {
		if code >= r.From && code < r.To {
			return true
		}
	}
	return false
}

func (c *Config) grpcSucceeds(status string) bool {
	n, err := strconv.ParseUint(status, 10, 5)
	return err == nil && c.GRPC&(1<<n) != 0
}
