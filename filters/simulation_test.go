package filters_test

import (
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mecha-mesh/mecha/filters/adaptiveconcurrency"
	"github.com/mecha-mesh/mecha/proxy/cluster"
	"github.com/mecha-mesh/mecha/proxy/cluster/outlier"
	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/meta"
	"github.com/mecha-mesh/mecha/proxy/runtime"
	"github.com/mecha-mesh/mecha/proxy/stats"
	"github.com/mecha-mesh/mecha/proxy/transport"
)

// What becomes of a whole cluster when hosts are slow, fail or have too much to do. Time is
// virtual and the network a pause; balancing, breakers, budgets, outlier detection and
// filters are those of the proxy.

// box is a host that works on so many requests at a time; others wait for it.
type box struct {
	slots   chan struct{}
	service func() time.Duration
	fails   func() bool
}

// world is a cluster and what is behind it.
type world struct {
	t     *testing.T
	m     *cluster.Manager
	c     *cluster.Cluster
	boxes map[string]*box
	rnd   *rand.Rand
	mu    sync.Mutex // of rnd

	filter func() filter.HTTP // before the cluster; nil: none
	tries  int                // retries of a request at most

	outcome
}

// outcome is what clients and hosts have seen.
type outcome struct {
	sync.Mutex
	took                            []time.Duration // of those that succeeded
	good, bad, refused, none, tried int
}

// newWorld is a cluster of n hosts that take 5 to 15 ms for a request, 10 at a time. To be
// called in a bubble; end ends it.
func newWorld(t *testing.T, n int, policy cluster.Policy, detect *outlier.Config) *world {
	w := &world{t: t, boxes: map[string]*box{}, rnd: rand.New(rand.NewPCG(1, 2))}
	spec := &cluster.Spec{
		Name: "web", Type: cluster.Static, ConnectTimeout: time.Second, PanicThreshold: 50, Policy: policy, Outlier: detect,
		Assignment: &cluster.Assignment{Cluster: "web", Localities: []cluster.Locality{{}}, Overprovisioning: 140}, Socket: transport.Raw{},
	}
	for i := range spec.Breakers {
		spec.Breakers[i] = cluster.Thresholds{MaxConnections: 1024, MaxPending: 1024, MaxRequests: 4096, MaxRetries: 3, RetryBudget: cluster.UnsaidBudget()}
	}
	for i := range n {
		addr := meta.Addr{AddrPort: netip.MustParseAddrPort(fmt.Sprintf("10.0.0.%d:80", i+1))}
		spec.Assignment.Localities[0].Hosts = append(spec.Assignment.Localities[0].Hosts, cluster.HostSpec{Addr: addr, Weight: 1})
		w.boxes[addr.String()] = &box{make(chan struct{}, 10), w.between(5*time.Millisecond, 15*time.Millisecond), func() bool { return false }}
	}
	w.m = cluster.NewManager(cluster.Options{Log: slog.New(slog.DiscardHandler), Rand: w.random})
	if err := w.m.Set(spec); err != nil {
		t.Fatal(err)
	}
	w.c = w.m.Cluster("web")
	return w
}

func (w *world) end() { w.m.Close() }

func (w *world) random() uint64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.rnd.Uint64()
}

func (w *world) between(least, most time.Duration) func() time.Duration {
	return func() time.Duration { return least + time.Duration(w.random()%uint64(most-least)) }
}

func (w *world) box(i int) *box { return w.boxes[fmt.Sprintf("10.0.0.%d:80", i+1)] }

// run lets requests come, so many a second, and waits for all of them.
func (w *world) run(perSecond int, length time.Duration) {
	var all sync.WaitGroup
	for end := time.Now().Add(length); time.Now().Before(end); time.Sleep(time.Second / time.Duration(perSecond)) {
		all.Go(w.request)
	}
	all.Wait()
}

// forget begins to count anew.
func (w *world) forget() {
	w.Lock()
	defer w.Unlock()
	w.took, w.good, w.bad, w.refused, w.none, w.tried = nil, 0, 0, 0, 0, 0
}

func (w *world) count(n *int) {
	w.Lock()
	defer w.Unlock()
	*n++
}

// request is one request from its client to its end.
func (w *world) request() {
	s := &filter.Stream{}
	s.Meta.Start = time.Now()
	if w.filter != nil {
		f := w.filter()
		if err := f.(filter.RequestHeaders).OnRequestHeaders(s, true); err != nil {
			w.count(&w.refused)
			return
		}
		defer func() {
			s.Meta.ResponseEnd = s.Tick()
			f.(filter.Done).OnDone(s)
		}()
	}
	ticket, err := w.c.Admit(cluster.Default)
	if err != nil {
		w.count(&w.refused)
		return
	}
	defer ticket.Done()
	ok := w.attempt()
	for n := 0; !ok && n < w.tries; n++ {
		again, err := w.c.AdmitRetry(cluster.Default, time.Now())
		if err != nil {
			break
		}
		w.count(&w.tried)
		ok = w.attempt()
		again.Done()
	}
	if !ok {
		w.count(&w.bad)
		return
	}
	w.Lock()
	defer w.Unlock()
	w.good++
	w.took = append(w.took, time.Since(s.Meta.Start))
}

// attempt sends a request to a host, as the router does, and reports what became of it.
func (w *world) attempt() (ok bool) {
	h, err := w.c.Pick(nil)
	if errors.Is(err, cluster.ErrNoHealthyHost) {
		w.count(&w.none)
		return false
	}
	b, begun := w.boxes[h.Addr.String()], time.Now()
	h.Stats().RqActive.Inc()
	b.slots <- struct{}{}
	time.Sleep(b.service())
	<-b.slots
	h.Stats().RqActive.Dec()
	w.c.Report(h, time.Since(begun), nil)
	if b.fails() {
		h.Outlier().Code(503, false)
		return false
	}
	h.Outlier().Code(200, false)
	return true
}

func (w *world) p99() time.Duration {
	w.Lock()
	defer w.Unlock()
	slices.Sort(w.took)
	return w.took[len(w.took)*99/100]
}

// TestOneSlowHost: one of ten hosts that takes ten times as long costs the 99th percentile
// at most 1.3 of what it is when all are well, with the policy that goes by latency.
func TestOneSlowHost(t *testing.T) {
	for name, tc := range map[string]struct {
		policy cluster.Policy
		most   float64 // 0: it is only told
	}{
		"peak_ewma":     {cluster.Policy{Kind: cluster.PeakEWMALB, Latency: cluster.Latency{Decay: 10 * time.Second, Default: 10 * time.Millisecond, Penalty: 1e6}}, 1.3},
		"least_request": {cluster.Policy{Kind: cluster.LeastRequestLB}, 0},
		"round_robin":   {cluster.Policy{Kind: cluster.RoundRobin}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			p99 := func(slow bool) (d time.Duration) {
				synctest.Test(t, func(t *testing.T) {
					w := newWorld(t, 10, tc.policy, nil)
					defer w.end()
					if slow {
						w.box(0).service = w.between(50*time.Millisecond, 150*time.Millisecond)
					}
					w.run(2000, 3*time.Second)
					w.forget()
					w.run(2000, 5*time.Second)
					d = w.p99()
				})
				return d
			}
			well, ill := p99(false), p99(true)
			t.Logf("p99 %v, with a slow host %v: %.2f", well, ill, float64(ill)/float64(well))
			if tc.most > 0 && float64(ill) > tc.most*float64(well) {
				t.Errorf("p99 %v, with a slow host %v: %.2f times", well, ill, float64(ill)/float64(well))
			}
		})
	}
}

// TestSlowHostComesBack: a host that was slow, and is not any more, gets its share again.
func TestSlowHostComesBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 10, cluster.Policy{Kind: cluster.PeakEWMALB, Latency: cluster.Latency{Decay: 10 * time.Second, Default: 10 * time.Millisecond, Penalty: 1e6}}, nil)
		defer w.end()
		first := w.box(0)
		first.service = w.between(50*time.Millisecond, 150*time.Millisecond)
		w.run(1000, 3*time.Second)
		var served atomic.Int64 // requests run at once
		first.service = func() time.Duration { served.Add(1); return 10 * time.Millisecond }
		w.run(1000, 40*time.Second)
		if n := served.Load(); n < 1000 {
			t.Errorf("it got %d of 40000 requests", n)
		}
	})
}

// TestRetryStorm: hosts of which all fail at once get a fifth more requests, and ten a
// second, though each request may be tried four times.
func TestRetryStorm(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 10, cluster.Policy{Kind: cluster.LeastRequestLB}, nil)
		defer w.end()
		w.tries = 3
		w.run(500, 10*time.Second)
		if w.good != 5000 || w.tried != 0 {
			t.Fatalf("%d of 5000 good, %d retries before the storm", w.good, w.tried)
		}
		for i := range 10 {
			w.box(i).service, w.box(i).fails = w.between(time.Microsecond, time.Millisecond), func() bool { return true }
		}
		w.forget()
		const seconds = 20
		w.run(500, seconds*time.Second)
		budget := seconds*(500/5+10) + 500
		t.Logf("%d retries of %d requests, the budget is %d", w.tried, seconds*500, budget)
		if w.tried > budget || w.good > 0 {
			t.Errorf("%d retries of %d requests, the budget is %d", w.tried, seconds*500, budget)
		}
	})
}

// TestOverloadedCluster: three times the load that ten hosts can do, and 90 % of what they
// can do gets done, quickly, behind adaptive concurrency.
func TestOverloadedCluster(t *testing.T) {
	for name, limited := range map[string]bool{"adaptive_concurrency": true, "nothing": false} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, 2, cluster.Policy{Kind: cluster.LeastRequestLB}, nil)
				defer w.end()
				if limited {
					w.limit()
				}
				const capacity, seconds = 2000, 8 // 2 hosts, 10 at a time, 10 ms
				w.run(3*capacity, 2*time.Second)
				w.forget()
				w.run(3*capacity, seconds*time.Second)
				goodput, p99 := float64(w.good)/(capacity*seconds), w.p99()
				t.Logf("%.2f of capacity, p99 %v, %d refused", goodput, p99, w.refused)
				if limited && (goodput < 0.9 || p99 > 50*time.Millisecond) {
					t.Errorf("%.2f of capacity, p99 %v", goodput, p99)
				}
			})
		})
	}
}

// limit puts adaptive concurrency before the cluster.
func (w *world) limit() {
	st := stats.NewStore()
	mk, err := adaptiveconcurrency.Spec.New(&adaptiveconcurrency.Config{Status: 503, Enabled: runtime.FlagSetting{Default: true}, Gradient: adaptiveconcurrency.Gradient{
		Percentile: 0.5, Most: 1000, Least: 3, Update: 100 * time.Millisecond, Interval: 5 * time.Second, Requests: 50, Jitter: 0.15, Few: 3, Buffer: 0.25,
	}}, filter.Env{Stats: st, Parent: st.Scope("http")})
	if err != nil {
		w.t.Fatal(err)
	}
	w.filter = mk
}

// TestEjectedFleet: hosts of which all fail are all found out, and all go on to be used;
// when they are well again, nothing has to time out first.
func TestEjectedFleet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		detect := outlier.Default()
		detect.MaxPercent = 100
		detect.HalfOpen = &outlier.HalfOpen{Requests: 1, Successes: 3}
		w := newWorld(t, 10, cluster.Policy{Kind: cluster.LeastRequestLB}, &detect)
		defer w.end()
		w.c.Used()
		w.run(100, time.Second) // the detector learns of the hosts
		for i := range 10 {
			w.box(i).fails = func() bool { return true }
		}
		w.run(500, 5*time.Second)
		out := 0
		for _, h := range w.c.Hosts() {
			if h.Flags()&cluster.FailedOutlierCheck != 0 {
				out++
			}
		}
		if out != 10 {
			t.Fatalf("%d hosts are ejected, want all", out)
		}
		for i := range 10 {
			w.box(i).fails = func() bool { return false }
		}
		w.forget()
		w.run(500, 60*time.Second)
		if w.none > 0 || w.bad > 0 {
			t.Errorf("%d requests found no host, %d failed, %d succeeded", w.none, w.bad, w.good)
		}
	})
}

// TestHalfOpenHost: a host that fails whenever it gets requests costs a handful of them
// each time that it comes back, with a trial one.
func TestHalfOpenHost(t *testing.T) {
	failures := func(trial *outlier.HalfOpen) (bad int) {
		synctest.Test(t, func(t *testing.T) {
			detect := outlier.Default()
			detect.HalfOpen, detect.MaxEjection, detect.BaseEjection = trial, 10*time.Second, 10*time.Second
			w := newWorld(t, 10, cluster.Policy{Kind: cluster.LeastRequestLB}, &detect)
			defer w.end()
			w.run(100, time.Second)
			w.box(0).fails = func() bool { return true }
			w.run(1000, 5*time.Second)
			w.forget()
			w.run(1000, 60*time.Second)
			bad = w.bad
		})
		return bad
	}
	without, with := failures(nil), failures(&outlier.HalfOpen{Requests: 1, Successes: 3})
	t.Logf("%d requests failed without trials, %d with", without, with)
	if with*2 > without {
		t.Errorf("%d requests failed without trials, %d with", without, with)
	}
}
