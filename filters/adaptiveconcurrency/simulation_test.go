package adaptiveconcurrency

import (
	"container/heap"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// limiter is what decides in a simulation: the controller, or that of Envoy.
type limiter interface {
	admit(now time.Time) bool
	done(begin, now time.Time)
}

type ours struct{ *controller }

func (o ours) admit(time.Time) bool { return o.controller.admit() }

// envoy does what Envoy's gradient controller does: at intervals it lets few requests
// through, until enough of them have said how long they take.
type envoy struct {
	g                        Gradient
	limit                    float64
	flight                   int64
	base                     time.Duration
	measuring                bool
	epoch, nextWin, nextBase time.Time
	kept                     float64
	times                    []time.Duration
	atLeast                  int
}

func (e *envoy) quantile() time.Duration {
	slices.Sort(e.times)
	d := e.times[int(e.g.Percentile*float64(len(e.times)-1))]
	e.times = e.times[:0]
	return d
}

func (e *envoy) measure(now time.Time) {
	e.measuring, e.epoch, e.kept, e.limit, e.times = true, now, e.limit, float64(e.g.Few), e.times[:0]
}

func (e *envoy) admit(now time.Time) bool {
	if !e.measuring && now.After(e.nextBase) {
		e.measure(now)
	}
	if !e.measuring && now.After(e.nextWin) && len(e.times) > 0 {
		e.nextWin = now.Add(e.g.Update)
		gradient := max(0.5, min(2, e.base.Seconds()*(1+e.g.Buffer)/e.quantile().Seconds()))
		e.limit *= gradient
		e.limit = max(float64(e.g.Least), min(float64(e.g.Most), e.limit+math.Sqrt(e.limit)))
		if e.limit > float64(e.g.Least) {
			e.atLeast = 0
		} else if e.atLeast++; e.atLeast >= 5 {
			e.atLeast = 0
			e.measure(now)
		}
	}
	if float64(e.flight) >= math.Floor(e.limit) {
		return false
	}
	e.flight++
	return true
}

func (e *envoy) done(begin, now time.Time) {
	e.flight--
	if begin.Before(e.epoch) {
		return
	}
	e.times = append(e.times, now.Sub(begin))
	if e.measuring && int64(len(e.times)) >= e.g.Requests {
		e.base = e.quantile()
		e.measuring, e.limit = false, e.kept
		e.nextWin, e.nextBase = now.Add(e.g.Update), now.Add(e.g.Interval)
	}
}

// event is an arrival, or the end of a request at the server.
type event struct {
	at    time.Time
	begin time.Time // of the request that ends; zero: an arrival
}

type events []event

func (e events) Len() int           { return len(e) }
func (e events) Less(i, k int) bool { return e[i].at.Before(e[k].at) }
func (e events) Swap(i, k int)      { e[i], e[k] = e[k], e[i] }
func (e *events) Push(x any)        { *e = append(*e, x.(event)) }
func (e *events) Pop() any {
	x := (*e)[len(*e)-1]
	*e = (*e)[:len(*e)-1]
	return x
}

// server works on so many requests at a time, each of which takes about as long as
// service says; others wait in its queue.
type server struct {
	workers int
	service func(since time.Duration) time.Duration
	offered func(since time.Duration) float64 // requests a second
}

// seen is what a second of a simulation was like.
type seen struct {
	done, refused int
	took          []time.Duration
}

func (s seen) quantile(q float64) time.Duration {
	slices.Sort(s.took)
	return s.took[int(q*float64(len(s.took)-1))]
}

// simulate lets a limiter stand before a server, and returns what each second was like.
func (sv server) simulate(l limiter, length time.Duration, seed uint64) []seen {
	rnd := rand.New(rand.NewPCG(seed, 1))
	start := time.Unix(1_000_000, 0)
	out := make([]seen, length/time.Second)
	q := &events{{at: start}}
	var waiting []time.Time
	busy := 0
	begin := func(arrived, now time.Time) {
		busy++
		d := time.Duration(float64(sv.service(now.Sub(start))) * (0.5 + rnd.Float64())) // half as much to half more
		heap.Push(q, event{now.Add(d), arrived})
	}
	for {
		e := heap.Pop(q).(event)
		since := e.at.Sub(start)
		if since >= length {
			return out
		}
		sec := &out[since/time.Second]
		if e.begin.IsZero() {
			heap.Push(q, event{at: e.at.Add(time.Duration(rnd.ExpFloat64() / sv.offered(since) * float64(time.Second)))})
			switch {
			case !l.admit(e.at):
				sec.refused++
			case busy < sv.workers:
				begin(e.at, e.at)
			default:
				waiting = append(waiting, e.at)
			}
			continue
		}
		busy--
		l.done(e.begin, e.at)
		sec.done++
		sec.took = append(sec.took, e.at.Sub(e.begin))
		if len(waiting) > 0 {
			begin(waiting[0], e.at)
			waiting = waiting[1:]
		}
	}
}

var usual = Gradient{
	Percentile: 0.5, Most: 1000, Least: 3, Update: 100 * time.Millisecond, Interval: 10 * time.Second,
	Requests: 50, Jitter: 0.15, Few: 3, Buffer: 0.25,
}

func controllerOf(g Gradient) *controller {
	rnd := rand.New(rand.NewPCG(7, 7))
	return newController(g, &counters{}, time.Unix(1_000_000, 0), rnd.Float64)
}

// steady is a server of 50 workers, 10 ms each: 5000 requests a second.
func steady(load float64) server {
	return server{50,
		func(time.Duration) time.Duration { return 10 * time.Millisecond },
		func(time.Duration) float64 { return load * 5000 },
	}
}

// worst is the least goodput of a second, and mean that of all, as parts of capacity; p99
// is the worst 99th percentile of a second.
func summary(s []seen, capacity float64) (worst, mean float64, p99 time.Duration) {
	worst = math.Inf(1)
	for _, sec := range s {
		worst = min(worst, float64(sec.done)/capacity)
		mean += float64(sec.done) / capacity / float64(len(s))
		p99 = max(p99, sec.quantile(0.99))
	}
	return worst, mean, p99
}

// TestOverload: with three times the load that the server can do, at least 95 % of its
// capacity gets done in each second and requests wait a few milliseconds, over a minute
// in which Envoy would measure six times.
func TestOverload(t *testing.T) {
	got := steady(3).simulate(ours{controllerOf(usual)}, time.Minute, 1)
	worst, mean, p99 := summary(got[2:], 5000)
	t.Logf("ours: worst second %.3f, mean %.3f of capacity, p99 %v", worst, mean, p99)
	if worst < 0.95 || p99 > 30*time.Millisecond {
		t.Errorf("worst second %.3f, mean %.3f of capacity, p99 %v", worst, mean, p99)
	}
	worst, mean, p99 = summary(steady(3).simulate(&envoy{g: usual, measuring: true, limit: 3, kept: 3}, time.Minute, 1)[2:], 5000)
	t.Logf("Envoy: worst second %.3f, mean %.3f of capacity, p99 %v", worst, mean, p99)
}

// TestNoOverload: who is not overloaded is not refused anything, but for the first second.
func TestNoOverload(t *testing.T) {
	for _, load := range []float64{0.1, 0.5, 0.8} {
		refused, done := 0, 0
		for _, sec := range steady(load).simulate(ours{controllerOf(usual)}, time.Minute, 1)[1:] {
			refused, done = refused+sec.refused, done+sec.done
		}
		t.Logf("load %v: %d of %d refused", load, refused, done)
		if refused > done/1000 {
			t.Errorf("load %v: %d refused, %d done", load, refused, done)
		}
	}
	refused, done := 0, 0
	for _, sec := range steady(0.8).simulate(&envoy{g: usual, measuring: true, limit: 3, kept: 3}, time.Minute, 1)[1:] {
		refused, done = refused+sec.refused, done+sec.done
	}
	t.Logf("Envoy, load 0.8: %d of %d refused", refused, done)
}

// TestServiceChanges: requests that take longer, or less, from one moment to the next are
// the new base soon, overloaded or not.
func TestServiceChanges(t *testing.T) {
	for _, load := range []float64{0.5, 3} {
		sv := server{50,
			func(since time.Duration) time.Duration {
				if since > time.Minute && since < 2*time.Minute {
					return 30 * time.Millisecond
				}
				return 10 * time.Millisecond
			},
			nil,
		}
		sv.offered = func(since time.Duration) float64 {
			return load * 50 / sv.service(since).Seconds()
		}
		got := sv.simulate(ours{controllerOf(usual)}, 3*time.Minute, 1)
		for _, part := range []struct {
			from, to int
			capacity float64
		}{{2, 60, 5000}, {70, 120, 5000. / 3}, {125, 180, 5000}} {
			worst, mean, p99 := summary(got[part.from:part.to], part.capacity)
			t.Logf("load %v from %d s: worst second %.3f, mean %.3f of capacity, p99 %v", load, part.from, worst, mean, p99)
			if worst < 0.85*min(1, load) {
				t.Errorf("load %v from %d s: worst second %.3f, mean %.3f of capacity, p99 %v", load, part.from, worst, mean, p99)
			}
		}
	}
}

// TestBeginOverloaded: a base that was learnt from a queue does not stay.
func TestBeginOverloaded(t *testing.T) {
	sv := steady(3)
	sv.workers = 3 // far fewer than the limit to begin with
	sv.offered = func(time.Duration) float64 { return 900 }
	c := controllerOf(usual)
	got := sv.simulate(ours{c}, 3*time.Minute, 1)
	worst, mean, p99 := summary(got[60:], 300)
	t.Logf("worst second %.3f, mean %.3f of capacity, p99 %v; base %v, limit %v", worst, mean, p99, c.base.value(), c.exact)
	if worst < 0.8 || p99 > 100*time.Millisecond {
		t.Errorf("worst second %.3f, mean %.3f of capacity, p99 %v; base %v, limit %v", worst, mean, p99, c.base.value(), c.exact)
	}
}
