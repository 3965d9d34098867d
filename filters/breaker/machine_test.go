package breaker

import (
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/mecha-mesh/mecha/proxy/filter"
)

func limits(t *testing.T, text string) (*Limits, error) {
	t.Helper()
	var st structpb.Struct
	if err := st.UnmarshalJSON([]byte(text)); err != nil {
		t.Fatal(err)
	}
	raw, err := proto.Marshal(&st)
	if err != nil {
		t.Fatal(err)
	}
	return parse(raw, &filter.Parser{})
}

func TestRefusals(t *testing.T) {
	for text, want := range map[string]string{
		`{"consecutive": 1}`:                                 "consecutive: there is no such field",
		`{"consecutive_failures": 0}`:                        "one of consecutive_failures, failure_percentage",
		`{"failure_percentage": 101}`:                        "failure_percentage: must be from 0 to 100",
		`{"open_time": "0s"}`:                                "open_time: 0s is less than 1ms",
		`{"open_time": "10s", "max_open_time": "5s"}`:        "max_open_time: 5s is less than 10s",
		`{"sampling_window": "0.5s"}`:                        "sampling_window: 500ms is less than 1s",
		`{"half_open_requests": 0}`:                          "half_open_requests: must be more than 0",
		`{"half_open_successes": 0}`:                         "half_open_successes: must be more than 0",
		`{"failure_statuses": [{"start": 500, "end": 600}]}`: "failure_statuses[0]",
		`{"grpc_failure_statuses": [14, 17]}`:                "grpc_failure_statuses[1]",
		`{"consecutive_failures": "five"}`:                   "consecutive_failures: is a string",
	} {
		if _, err := limits(t, text); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
}

// life is a machine and its clock.
type life struct {
	t *testing.T
	*machine
	now time.Time
}

func begin(t *testing.T, text string) *life {
	t.Helper()
	l, err := limits(t, text)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Unix(1000, 0)
	return &life{t, newMachine(l, &counters{}, now), now}
}

func (l *life) is(s state) {
	l.t.Helper()
	if got := state(l.state.Load()); got != s {
		l.t.Fatalf("the state is %d, want %d", got, s)
	}
}

// request lets one request through, which ends at once.
func (l *life) request(success bool) {
	l.t.Helper()
	p, ok, _ := l.admit(l.now)
	if !ok {
		l.t.Fatal("refused")
	}
	l.done(p, success, l.now)
}

func (l *life) refused(wait time.Duration) {
	l.t.Helper()
	if _, ok, got := l.admit(l.now); ok || got != wait {
		l.t.Fatalf("admitted: %v, or to wait %v, want %v", ok, got, wait)
	}
}

// TestConsecutive: a success in between begins the count anew; each time in a row the
// breaker is open for twice as long, up to a bound.
func TestConsecutive(t *testing.T) {
	l := begin(t, `{"consecutive_failures": 3, "open_time": "1s", "max_open_time": "3s", "half_open_successes": 2}`)
	for _, success := range []bool{false, false, true, false, false} {
		l.request(success)
	}
	l.is(closed)
	l.request(false)
	l.is(open)
	for _, d := range []time.Duration{time.Second, 2 * time.Second, 3 * time.Second, 3 * time.Second} {
		l.refused(d)
		l.now = l.now.Add(d - 1)
		l.refused(1)
		l.now = l.now.Add(1)
		l.request(true)
		l.is(halfOpen)
		l.request(false)
		l.is(open)
	}
	l.now = l.now.Add(3 * time.Second)
	l.request(true)
	l.request(true)
	l.is(closed)
	for range 3 {
		l.request(false)
	}
	l.refused(time.Second) // it begins anew
	if c := l.counters; c.Opened.Value() != 6 || c.Closed.Value() != 1 || c.HalfOpened.Value() != 5 || c.Open.Value() != 1 || c.HalfOpen.Value() != 0 {
		t.Errorf("%+v", c)
	}
	l.retire()
	if n := l.counters.Open.Value(); n != 0 {
		t.Errorf("%d are open after the end", n)
	}
}

// TestPercentage: enough requests of which enough fail.
func TestPercentage(t *testing.T) {
	l := begin(t, `{"consecutive_failures": 0, "failure_percentage": 50, "minimum_requests": 10, "sampling_window": "5s", "half_open_successes": 1}`)
	for i := range 8 {
		l.request(i%2 == 0)
	}
	l.is(closed)
	l.now = l.now.Add(10 * time.Second) // those do not count any more
	for i := range 9 {
		l.request(i%2 == 0)
	}
	l.is(closed)
	l.request(false)
	l.is(open)
	l.now = l.now.Add(5 * time.Second)
	l.request(true)
	l.is(closed)
	l.request(false)
	l.is(closed) // what was before is forgotten
}

// TestProbes: so many at a time; those that say nothing make room; those that began before
// say nothing about now.
func TestProbes(t *testing.T) {
	l := begin(t, `{"consecutive_failures": 1, "open_time": "1s", "half_open_requests": 2, "half_open_successes": 2}`)
	before, _, _ := l.admit(l.now)
	l.request(false)
	l.now = l.now.Add(time.Second)
	one, ok1, _ := l.admit(l.now)
	two, ok2, _ := l.admit(l.now)
	if !ok1 || !ok2 {
		t.Fatal("two are let through")
	}
	l.refused(0)
	l.cancel(one)
	three, ok, _ := l.admit(l.now)
	if !ok {
		t.Fatal("there is room")
	}
	l.done(before, false, l.now)
	l.is(halfOpen)
	l.done(three, false, l.now)
	l.is(open)
	l.done(two, true, l.now) // too late
	l.now = l.now.Add(2 * time.Second)
	l.request(true)
	l.cancel(two)
	l.request(true)
	l.is(closed)
}

// TestConcurrently: whatever the order, no probe is lost.
func TestConcurrently(t *testing.T) {
	l := begin(t, `{"consecutive_failures": 1, "open_time": "0.001s", "max_open_time": "0.001s", "half_open_successes": 3}`)
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			for i := range 2000 {
				now := l.now.Add(time.Duration(i) * time.Millisecond)
				p, ok, _ := l.admit(now)
				switch {
				case !ok:
				case i%7 == 0:
					l.cancel(p)
				default:
					l.done(p, (i+g)%5 != 0, now)
				}
			}
		})
	}
	wg.Wait()
	if l.probes != 0 {
		t.Errorf("%d probes are under way", l.probes)
	}
	if open, half := l.counters.Open.Value(), l.counters.HalfOpen.Value(); open+half > 1 || open < 0 || half < 0 {
		t.Errorf("%d open, %d half open", open, half)
	}
}
