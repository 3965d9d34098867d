package adaptiveconcurrency

import (
	"math"
	"strings"
	"sync"
	"testing"
	"time"

	adaptivev3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/adaptive_concurrency/v3"

	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/filter/filtertest/message"
)

func TestRefusals(t *testing.T) {
	for text, want := range map[string]string{
		`{}`: "concurrency_controller_config: is required",
		`{"gradientControllerConfig": {"minRttCalcParams": {"interval": "1s"}}}`:                                                                                            "gradient_controller_config.concurrency_limit_params: is required",
		`{"gradientControllerConfig": {"concurrencyLimitParams": {}, "minRttCalcParams": {"interval": "1s"}}}`:                                                              "gradient_controller_config.concurrency_limit_params.concurrency_update_interval",
		`{"gradientControllerConfig": {"concurrencyLimitParams": {"concurrencyUpdateInterval": "0.1s"}, "minRttCalcParams": {}}}`:                                           "gradient_controller_config.min_rtt_calc_params: one of interval, fixed_value",
		`{"gradientControllerConfig": {"concurrencyLimitParams": {"concurrencyUpdateInterval": "0.1s", "maxConcurrencyLimit": 2}, "minRttCalcParams": {"interval": "1s"}}}`: "gradient_controller_config.concurrency_limit_params: min_concurrency_limit",
	} {
		raw := message.Raw(t, &adaptivev3.AdaptiveConcurrency{}, text)
		if _, err := parse(raw, &filter.Parser{}); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
}

// TestCells: what a cell stands for is within a sixteenth of what was put into it.
func TestCells(t *testing.T) {
	for us := 1.0; us < 3.6e9; us *= 1.01 {
		d := time.Duration(us) * time.Microsecond
		if got := of(cellOf(d)); math.Abs(float64(got-d)) > float64(d)/16+float64(time.Microsecond) {
			t.Fatalf("%v is in a cell of %v", d, got)
		}
	}
	for _, d := range []time.Duration{-time.Second, 0, math.MaxInt64} {
		if c := cellOf(d); c < 0 || c >= cells {
			t.Errorf("%v: cell %d", d, c)
		}
	}
}

func TestQuantiles(t *testing.T) {
	var l latencies
	if d, n := l.take(0.5); d != 0 || n != 0 {
		t.Errorf("nothing: %v of %d", d, n)
	}
	for _, c := range []struct {
		quantile float64
		want     int
	}{{0, 1}, {0.5, 51}, {0.9, 91}, {1, 100}} {
		for ms := 1; ms <= 100; ms++ {
			l.add(time.Duration(ms) * time.Millisecond)
		}
		want := time.Duration(c.want) * time.Millisecond
		if d, n := l.take(c.quantile); n != 100 || math.Abs(float64(d-want)) > float64(want)/16 {
			t.Errorf("%v: %v of %d, want %v", c.quantile, d, n, want)
		}
	}
}

// TestConcurrentUse: what is under way is counted exactly, and never more than the limit.
func TestConcurrentUse(t *testing.T) {
	c := controllerOf(Gradient{Percentile: 0.5, Most: 10, Least: 3, Few: 3, Update: time.Microsecond, Interval: time.Millisecond, Requests: 1, Buffer: 0.25})
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for i := range 2000 {
				now := time.Now()
				if !c.admit() {
					continue
				}
				if i%10 == 0 {
					c.cancel()
				} else {
					c.done(now, time.Now())
				}
			}
		})
	}
	wg.Wait()
	if n, limit := c.flight.Load(), c.limit.Load(); n != 0 || limit < 3 || limit > 10 {
		t.Errorf("%d under way, limit %d", n, limit)
	}
}

// TestFixed: a fixed base stays.
func TestFixed(t *testing.T) {
	g := usual
	g.Interval, g.Fixed = 0, 5*time.Millisecond
	c := controllerOf(g)
	_ = steady(3).simulate(ours{c}, 5*time.Second, 1)
	if c.base.value() != g.Fixed || c.limit.Load() > 50 {
		t.Errorf("base %v, limit %d: requests take 10 ms, so that the limit gets lower", c.base.value(), c.limit.Load())
	}
}
