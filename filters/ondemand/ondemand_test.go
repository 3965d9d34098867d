package ondemand

import (
	"context"
	"testing"
	"time"

	"github.com/mecha-mesh/mecha/proxy/cluster"
	"github.com/mecha-mesh/mecha/proxy/filter"
)

// world is what a filter asks, and the stream's engine.
type world struct {
	filter.Engine
	there   bool
	missing []filter.Wanted // of routes, in turn
	route   filter.Route    // once none is missing
	stream  *filter.Stream
	asked   []filter.Wanted
	timeout time.Duration
}

func (w *world) Cluster(string) *cluster.Cluster {
	if w.there {
		return &cluster.Cluster{}
	}
	return nil
}

// demand is where a world is asked for what it does not have.
type demand struct{ w *world }

func (d demand) Wait(_ context.Context, want filter.Wanted, timeout time.Duration) bool {
	w := d.w
	w.asked, w.timeout = append(w.asked, want), timeout
	if want.Kind != filter.WantedCluster {
		w.missing = w.missing[1:]
	}
	return true
}

func (w *world) Context() context.Context { return context.Background() }

func (w *world) MissingRoute() (filter.Wanted, bool) {
	if len(w.missing) == 0 {
		return filter.Wanted{}, false
	}
	return w.missing[0], true
}

func (w *world) RefreshRoute() {
	if len(w.missing) == 0 {
		w.stream.Route = w.route
	}
}

// to is a route to a cluster.
type to struct {
	filter.Route
	cluster string
	own     any
}

func (r to) ClusterName(*filter.Stream) string { return r.cluster }
func (r to) Override(filter.Slot) any          { return r.own }

// TestWhatIsAskedFor: what is missing, in the order in which it is needed, and nothing else.
func TestWhatIsAskedFor(t *testing.T) {
	scope := filter.Wanted{Kind: filter.WantedScope, From: "s", Name: "k"}
	host := filter.Wanted{Kind: filter.WantedHost, From: "r", Name: "h"}
	clusters := &Config{Clusters: true, From: "api", Timeout: time.Second}
	for name, tc := range map[string]struct {
		config  *Config
		world   world
		now     filter.Route
		want    int
		timeout time.Duration
	}{
		"nothing is missing":           {clusters, world{there: true}, to{cluster: "c"}, 0, 0},
		"a cluster":                    {clusters, world{}, to{cluster: "c"}, 1, time.Second},
		"a cluster, not looked for":    {&Config{}, world{}, to{cluster: "c"}, 0, 0},
		"a cluster, as the route says": {&Config{}, world{}, to{cluster: "c", own: &Config{Clusters: true, Timeout: time.Minute}}, 1, time.Minute},
		"switched off by the route":    {clusters, world{}, to{cluster: "c", own: &Config{}}, 0, 0},
		"no name":                      {clusters, world{}, to{}, 0, 0},
		"no route":                     {clusters, world{}, nil, 0, 0},
		"a host":                       {&Config{}, world{missing: []filter.Wanted{host}, route: to{cluster: "c"}}, nil, 1, routeTimeout},
		"everything":                   {clusters, world{missing: []filter.Wanted{scope, host}, route: to{cluster: "c"}}, nil, 3, time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			w := &tc.world
			w.stream = &filter.Stream{Engine: w, Route: tc.now}
			factory, err := newFactory(tc.config, filter.Env{Clusters: w, Demand: demand{w}})
			if err != nil {
				t.Fatal(err)
			}
			if err := factory().(filter.RequestHeaders).OnRequestHeaders(w.stream, true); err != nil {
				t.Fatal(err)
			}
			if len(w.asked) != tc.want || w.timeout != tc.timeout {
				t.Errorf("asked %v, for %s", w.asked, w.timeout)
			}
		})
	}
}

// TestNothingMissingCostsNothing: requests whose cluster is there allocate nothing.
func TestNothingMissingCostsNothing(t *testing.T) {
	w := &world{there: true}
	w.stream = &filter.Stream{Engine: w, Route: &to{cluster: "c"}}
	f := &Filter{&Config{Clusters: true}, &filter.Env{Clusters: clustersThere{}, Demand: demand{w}}}
	if n := testing.AllocsPerRun(100, func() { _ = f.OnRequestHeaders(w.stream, true) }); n > 0 {
		t.Errorf("%v allocations", n)
	}
	if w.stream.Cluster != &one {
		t.Error("the router may not find the cluster any more")
	}
}

type clustersThere struct{}

var one cluster.Cluster

func (clustersThere) Cluster(string) *cluster.Cluster { return &one }
