package xds_test

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"

	"github.com/mecha-mesh/mecha/filters"
	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/filter/filtertest/ports"
	"github.com/mecha-mesh/mecha/proxy/l4"
	"github.com/mecha-mesh/mecha/proxy/server"
	"github.com/mecha-mesh/mecha/proxy/stats"
	"github.com/mecha-mesh/mecha/xds"
	"github.com/mecha-mesh/mecha/xds/ads"
	"github.com/mecha-mesh/mecha/xds/xdstest"
)

// tableOf is a listener's manager with that route table.
func tableOf(name string) string {
	return strings.Replace(overRDS, "route_config_name: r", "route_config_name: "+name, 1)
}

func (c *changing) routes(name, text string) {
	c.t.Helper()
	c.apply(name, message(c.t, &routev3.RouteConfiguration{}, answers(name, text)))
}

// hosts are the addresses of a cluster's version in use.
func (c *changing) hosts(name string) (out []string) {
	cl := c.server.Clusters.Cluster(name)
	if cl == nil {
		return nil
	}
	_, hosts := cl.Look()
	for _, h := range hosts {
		out = append(out, h.Addr.String())
	}
	return out
}

// While a new version of a listener waits for its table, the version in use gets those of
// its own.
func TestTablesChangeWhileANewListenerWarms(t *testing.T) {
	c := newChanging(t)
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	c.apply("l", httpListener(t, "l", tableOf("r1")))
	c.routes("r1", "1")
	for _, version := range []string{"a", "b"} { // the first to come does not count any more than the second
		l := httpListener(t, "l", tableOf("r2"))
		l.StatPrefix = version
		c.apply("l", l)
		c.routes("r1", "1"+version)
		if got := c.get(client); got != "1"+version {
			t.Errorf("while %s waits: %s", version, got)
		}
	}
	c.routes("r2", "2")
	if got := c.get(client); got != "2" {
		t.Errorf("in the end: %s", got)
	}
	if got := c.manager.Records(ads.RouteType); len(got) != 1 || got[0].Name != "r2" {
		t.Errorf("in effect are %v, want r2", got)
	}
}

// The same for clusters and their endpoints.
func TestEndpointsChangeWhileANewClusterWarms(t *testing.T) {
	c := newChanging(t)
	of := func(service, timeout string) *clusterv3.Cluster {
		return message(t, &clusterv3.Cluster{}, fmt.Sprintf(`{name: c, connect_timeout: %s, type: EDS,
  eds_cluster_config: {service_name: %s, eds_config: {ads: {}, resource_api_version: V3, initial_fetch_timeout: 0s}}}`, timeout, service))
	}
	endpoints := func(service string, port uint32) {
		t.Helper()
		c.apply(service, xdstest.Endpoints(service, xdstest.SocketAddress("127.0.0.1", port)))
	}
	check := func(when, want string, services ...string) {
		t.Helper()
		if got := c.hosts("c"); len(got) != 1 || got[0] != want {
			t.Errorf("%s: the hosts are %q, want %s", when, got, want)
		}
		var known []string
		for _, r := range c.manager.Records(ads.EndpointType) {
			known = append(known, r.Name)
		}
		if !slices.Equal(known, services) {
			t.Errorf("%s: the services are %q, want %q", when, known, services)
		}
	}
	c.apply("c", of("s1", "1s"))
	endpoints("s1", 1)
	c.apply("c", of("s2", "2s"))
	endpoints("s1", 2)
	check("while one waits", "127.0.0.1:2", "s1")
	c.apply("c", of("s3", "3s"))
	endpoints("s1", 3)
	check("while another one waits", "127.0.0.1:3", "s1")
	c.apply("c", of("s1", "4s"))
	check("back again", "127.0.0.1:3", "s1")
	c.apply("c", of("s2", "5s"))
	endpoints("s2", 5)
	check("in the end", "127.0.0.1:5", "s2")
}

// A cluster whose first endpoints are refused goes on without: nothing else would end its
// wait.
func TestRefusedEndpointsEndTheWait(t *testing.T) {
	c := newChanging(t)
	c.apply("c", message(t, &clusterv3.Cluster{}, `{name: c, connect_timeout: 1s, type: EDS, eds_cluster_config: {service_name: s, eds_config: {ads: {}, initial_fetch_timeout: 0s}}}`))
	if !c.server.ClusterWarming("c") {
		t.Fatal("the cluster does not wait for its endpoints")
	}
	bad := xdstest.Endpoints("s", xdstest.SocketAddress("127.0.0.1", 1))
	bad.Endpoints[0].Priority = 200
	for range 2 {
		refused := c.manager.Apply(ads.Update{TypeURL: ads.EndpointType, Changed: []ads.Resource{{Name: "s", Body: xdstest.Pack(t, bad)}}})
		if len(refused) != 1 || c.server.ClusterWarming("c") {
			t.Errorf("refused %v; warming: %v", refused, c.server.ClusterWarming("c"))
		}
		bad = xdstest.Endpoints("s", xdstest.SocketAddress("127.0.0.1", 1))
		c.apply("s", bad)
		if got := c.hosts("c"); len(got) != 1 {
			t.Errorf("with endpoints, the cluster has the hosts %q", got)
		}
		bad.Endpoints[0].Priority = 200
	}
}

// A version of a listener that waits goes on doing so when a newer one is refused.
func TestWarmingSurvivesARefusal(t *testing.T) {
	c := newChanging(t)
	taken, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", ports.Free(t)))
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close() //nolint:errcheck // nothing was sent
	c.apply("l2", httpListener(t, "l2", tableOf("r1")))
	c.routes("r1", "1")
	second := httpListener(t, "l2", tableOf("r2"))
	second.StatPrefix = "second"
	c.apply("l2", second)
	third := httpListener(t, "l2", tableOf("r3"))
	third.Address = xdstest.SocketAddress("127.0.0.1", uint32(taken.Addr().(*net.TCPAddr).Port))
	refused := c.manager.Apply(ads.Update{TypeURL: ads.ListenerType, Changed: []ads.Resource{{Name: "l2", Body: xdstest.Pack(t, third)}}})
	if len(refused) != 1 {
		t.Fatal("an address was taken twice")
	}
	c.routes("r2", "2")
	prefixes := map[string]string{}
	for _, l := range c.server.Listeners.Listeners() {
		prefixes[l.Name()] = l.Spec().StatPrefix
	}
	if prefixes["l2"] != "second" || c.server.ListenerWarming("l2") {
		t.Errorf("in use is %q, warming: %v", prefixes["l2"], c.server.ListenerWarming("l2"))
	}
}

// subscribed notes what is subscribed to.
type subscribed map[string]bool

func (s subscribed) Subscribe(url string, _ time.Duration, names ...string) {
	for _, n := range names {
		s[ads.ShortType(url)+" "+n] = true
	}
}

func (s subscribed) Unsubscribe(url string, names ...string) {
	for _, n := range names {
		delete(s, ads.ShortType(url)+" "+n)
	}
}

// failing is an engine that says of listeners afterwards that they cannot be used.
type failing struct {
	*server.Server
	failed func(*l4.Spec, error)
	newest *l4.Spec
}

// OnListenerError implements xds.Engine.
func (f *failing) OnListenerError(g func(*l4.Spec, error)) { f.failed = g }

// SetListener implements xds.Engine.
func (f *failing) SetListener(spec *l4.Spec, needs server.Needs) error {
	f.newest = spec
	return f.Server.SetListener(spec, needs)
}

// A version of a listener that was accepted and cannot be used after all is taken back.
func TestFailedListenersAreTakenBack(t *testing.T) {
	registry, err := filter.NewRegistry(filters.All()...)
	if err != nil {
		t.Fatal(err)
	}
	silent, store, subs := slog.New(slog.DiscardHandler), stats.NewStore(), subscribed{}
	e := &failing{Server: server.New(server.Options{Stats: store, Log: func(string) *slog.Logger { return silent }, Verify: true})}
	defer e.Close()
	m := xds.NewManager(xds.Options{Engine: e, Registry: registry, Log: silent, Stats: store})
	m.Over(subs, true)
	set := func(version, table string) *l4.Spec {
		t.Helper()
		l := httpListener(t, "l", tableOf(table))
		l.StatPrefix = version
		if refused := m.Apply(ads.Update{TypeURL: ads.ListenerType, Changed: []ads.Resource{{Name: "l", Version: version, Body: xdstest.Pack(t, l)}}}); len(refused) > 0 {
			t.Fatal(refused)
		}
		return e.newest
	}
	check := func(want ...string) {
		t.Helper()
		for _, n := range want {
			if !subs[n] {
				t.Errorf("subscribed to %v, not to %s", subs, n)
			}
		}
		if len(subs) != len(want) {
			t.Errorf("subscribed to %v, want %q", subs, want)
		}
	}
	set("1", "r1")
	m.Apply(ads.Update{TypeURL: ads.RouteType, Changed: []ads.Resource{{Name: "r1", Body: xdstest.Pack(t, message(t, &routev3.RouteConfiguration{}, answers("r1", "1")))}}})
	old := set("2", "r2")
	newest := set("3", "r3")
	check("RouteConfiguration r1", "RouteConfiguration r3")
	e.failed(old, errors.New("too late"))
	check("RouteConfiguration r1", "RouteConfiguration r3")
	e.failed(newest, errors.New("no socket"))
	check("RouteConfiguration r1")
	r := m.Records(ads.ListenerType)[0]
	if r.Version != "1" || r.Refused == nil || r.Refused.Version != "3" {
		t.Errorf("in effect is version %s, refused %v", r.Version, r.Refused)
	}
}
