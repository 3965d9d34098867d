package xds_test

import (
	"fmt"
	"io"
	"log/slog"
	"net/http"
	goruntime "runtime"
	"testing"
	"time"

	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/mecha-mesh/mecha/filters"
	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/server"
	"github.com/mecha-mesh/mecha/proxy/stats"
	"github.com/mecha-mesh/mecha/xds"
	"github.com/mecha-mesh/mecha/xds/ads"
)

// changing is a proxy with one listener, whose only filter chain set changes.
type changing struct {
	t       *testing.T
	stats   *stats.Store
	server  *server.Server
	manager *xds.Manager
}

func newChanging(t *testing.T) *changing {
	registry, err := filter.NewRegistry(filters.All()...)
	if err != nil {
		t.Fatal(err)
	}
	silent := slog.New(slog.DiscardHandler)
	c := &changing{t: t, stats: stats.NewStore()}
	c.server = server.New(server.Options{Stats: c.stats, Log: func(string) *slog.Logger { return silent }, DrainTime: time.Hour})
	t.Cleanup(c.server.Close)
	c.manager = xds.NewManager(xds.Options{Engine: c.server, Registry: registry, Log: silent, Stats: c.stats})
	c.set("0")
	c.server.Start()
	return c
}

// set replaces the listener's chain by one that answers with text.
func (c *changing) set(text string) {
	c.t.Helper()
	l := message(c.t, &listenerv3.Listener{}, `{name: l, address: {socket_address: {address: 127.0.0.1, port_value: 0}}, stat_prefix: here,
  filter_chains: [{filters: [{name: hcm, typed_config: {
    "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager, stat_prefix: in,
    route_config: `+answers("r", text)+`,
    http_filters: [{name: router, typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}}]}}]}]}`)
	body, err := anypb.New(l)
	if err != nil {
		c.t.Fatal(err)
	}
	refused := c.manager.Apply(ads.Update{TypeURL: ads.ListenerType, Changed: []ads.Resource{{Name: "l", Version: text, Body: body}}})
	if len(refused) > 0 {
		c.t.Fatal(refused[0].Err)
	}
}

// get sends a request and returns the answer.
func (c *changing) get(client *http.Client) string {
	c.t.Helper()
	resp, err := client.Get("http://" + c.server.Listeners.Listeners()[0].Bound()[0].String())
	if err != nil {
		c.t.Fatal(err)
	}
	defer resp.Body.Close() //nolint:errcheck // read
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		c.t.Fatal(err)
	}
	return string(text)
}

// series counts what there is by one name, and adds it up.
func (c *changing) series(name string) (n, sum int) {
	c.stats.Each(func(m stats.Metric) {
		if m.Name == name {
			n++
			sum += int(m.Counter.Value())
		}
	})
	return n, sum
}

// settled waits until no chain drains, and returns all series and the bytes of the heap.
func (c *changing) settled() (all int, heap uint64) {
	c.t.Helper()
	until(c.t, "the old chains to go", func() bool {
		draining := int64(0)
		all = 0
		c.stats.Each(func(m stats.Metric) {
			all++
			if m.Name == "listener_manager.total_filter_chains_draining" {
				draining = m.Gauge.Value()
			}
		})
		return draining == 0
	})
	goruntime.GC()
	goruntime.GC() // the second one empties pools
	var ms goruntime.MemStats
	goruntime.ReadMemStats(&ms)
	return all, ms.HeapAlloc
}

// What a chain has counted in goes with the chain, however long the drain time.
func TestChainsLeaveNothingBehind(t *testing.T) {
	c := newChanging(t)
	for i := range 100 {
		c.set(fmt.Sprint("warm ", i))
	}
	series, heap := c.settled()
	for i := range 1000 {
		c.set(fmt.Sprint(i))
	}
	now, after := c.settled()
	if now != series {
		t.Errorf("%d series after 1000 changes of a chain, %d before", now, series)
	}
	if grown := int64(after) - int64(heap); grown > 256<<10 {
		t.Errorf("1000 changes of a chain have left %d bytes behind", grown)
	}
}

// A counter is one for all versions of a chain, and never goes back.
func TestCountersOutliveChains(t *testing.T) {
	c := newChanging(t)
	kept, fresh := &http.Client{}, &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	defer kept.CloseIdleConnections()
	if got := c.get(kept); got != "0" {
		t.Fatal(got)
	}
	names := []string{"http.in.downstream_rq_total", "http.in.rq_total", "listener.here.http.in.downstream_rq_2xx"}
	for i := 1; i <= 5; i++ {
		c.set(fmt.Sprint(i))
		if got := c.get(fresh); got != fmt.Sprint(i) {
			t.Fatal(got)
		}
		for _, name := range names {
			want := i + 1
			until(t, name, func() bool { n, sum := c.series(name); return n == 1 && sum == want })
		}
	}
	if got := c.get(kept); got != "0" {
		t.Errorf("the connection of the first version answers %q", got)
	}
	for _, name := range names {
		until(t, name, func() bool { n, sum := c.series(name); return n == 1 && sum == 7 })
	}
}
