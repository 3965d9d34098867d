package control

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/mecha-mesh/mecha/xds/ads"
)

// logBuffer collects log lines.
type logBuffer struct {
	mu   sync.Mutex
	b    bytes.Buffer
	more chan struct{}
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	select {
	case l.more <- struct{}{}:
	default:
	}
	return l.b.Write(p)
}

// await waits until the log says text.
func (l *logBuffer) await(t *testing.T, text string) {
	t.Helper()
	deadline := time.After(10 * time.Second)
	for !strings.Contains(l.String(), text) {
		select {
		case <-l.more:
		case <-deadline:
			t.Fatalf("the log doesn't say %q", text)
		}
	}
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// serveFolder runs a server until the test ends.
func serveFolder(t *testing.T, dir string, listen ...string) (*Server, *logBuffer) {
	t.Helper()
	if len(listen) == 0 {
		listen = []string{"127.0.0.1:0"}
	}
	log := &logBuffer{more: make(chan struct{}, 1)}
	s, err := New(Options{
		Dir: dir, Listen: listen, Debounce: 10 * time.Millisecond, Grace: 20 * time.Millisecond, AckTimeout: 100 * time.Millisecond,
		Logger: slog.New(slog.NewTextHandler(log, nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		select {
		case err := <-done:
			if err != nil {
				t.Errorf("Run: %v", err)
			}
		case <-time.After(10 * time.Second):
			t.Error("Run did not return")
		}
		if t.Failed() {
			t.Logf("log:\n%s", log)
		}
	})
	return s, log
}

// proxy is a data plane reduced to its references: it asks for clusters, then for
// the routes and endpoints it is told of, and notes when a route leads nowhere.
type proxy struct {
	t       *testing.T
	c       *ads.Client
	mu      sync.Mutex
	have    map[string]map[string]ads.Resource
	refs    map[string]string // route configuration -> cluster
	lost    []string
	refuse  string
	changed chan struct{}
}

func connect(t *testing.T, v ads.Variant, address, id, cluster string) *proxy {
	t.Helper()
	p := &proxy{t: t, have: map[string]map[string]ads.Resource{}, refs: map[string]string{}, changed: make(chan struct{}, 1)}
	c, err := ads.New(ads.Config{
		Addresses: []string{address}, Variant: v, Node: &corev3.Node{Id: id, Cluster: cluster}, Handler: p,
		NodeOnFirstMessageOnly: true, Backoff: ads.Backoff{Base: 10 * time.Millisecond, Max: 50 * time.Millisecond},
		DialOptions: []grpc.DialOption{grpc.WithTransportCredentials(insecure.NewCredentials())},
	})
	if err != nil {
		t.Fatal(err)
	}
	p.c = c
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- c.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
	c.Subscribe(ads.ClusterType, 0)
	return p
}

func (p *proxy) Apply(u ads.Update) (refused []ads.Refusal) {
	p.mu.Lock()
	defer p.mu.Unlock()
	m := p.have[u.TypeURL]
	if m == nil {
		m = map[string]ads.Resource{}
		p.have[u.TypeURL] = m
	}
	for _, r := range u.Changed {
		if r.Name == p.refuse {
			refused = append(refused, ads.Refusal{Name: r.Name, Err: fmt.Errorf("alt_stat_name: not today")})
			continue
		}
		m[r.Name] = r
		p.learn(r)
	}
	for _, name := range u.Removed {
		delete(m, name)
	}
	if u.TypeURL == ads.ClusterType {
		p.c.Subscribe(ads.RouteType, 0, "routes")
	}
	for route, cluster := range p.refs {
		if _, ok := p.have[ads.ClusterType][cluster]; !ok {
			p.lost = append(p.lost, fmt.Sprintf("%s leads to %s, which isn't there", route, cluster))
		}
	}
	select {
	case p.changed <- struct{}{}:
	default:
	}
	return refused
}

// learn follows a resource's references. Called with mu held.
func (p *proxy) learn(r ads.Resource) {
	switch r.Body.GetTypeUrl() {
	case ads.ClusterType:
		var c clusterv3.Cluster
		if err := r.Body.UnmarshalTo(&c); err == nil && c.GetType() == clusterv3.Cluster_EDS {
			p.c.Subscribe(ads.EndpointType, 0, c.GetName())
		}
	case ads.RouteType:
		var rc routev3.RouteConfiguration
		if err := r.Body.UnmarshalTo(&rc); err == nil {
			p.refs[r.Name] = rc.GetVirtualHosts()[0].GetRoutes()[0].GetRoute().GetCluster()
		}
	}
}

func (p *proxy) FetchTimedOut(string, string) {}

func (p *proxy) until(what string, ok func() bool) {
	p.t.Helper()
	deadline := time.After(10 * time.Second)
	for {
		p.mu.Lock()
		done := ok()
		p.mu.Unlock()
		if done {
			return
		}
		select {
		case <-p.changed:
		case <-deadline:
			p.mu.Lock()
			defer p.mu.Unlock()
			p.t.Fatalf("waited 10 s for %s; have %v, refs %v", what, p.names(ads.ClusterType), p.refs)
		}
	}
}

func (p *proxy) names(typeURL string) string {
	s := Set{}
	for name := range p.have[typeURL] {
		s[key{typeURL, name}] = &Resource{TypeURL: typeURL, Name: name}
	}
	return list(s)
}

func routes(cluster string) string {
	return "name: routes\nvirtual_hosts: [{name: v, domains: ['*'], routes: [{match: {prefix: /}, route: {cluster: " + cluster + "}}]}]\n"
}

func edsCluster(name string) string {
	return "{name: " + name + ", type: EDS, eds_cluster_config: {eds_config: {ads: {}}}}\n---\n{cluster_name: " + name + "}\n"
}

func variants(t *testing.T, f func(t *testing.T, v ads.Variant)) {
	for _, v := range []ads.Variant{ads.SotW, ads.Delta} {
		t.Run(v.String(), func(t *testing.T) { f(t, v) })
	}
}

// While the folder flips between sets of clusters and routes to them, no proxy ever
// holds a route to a cluster that it hasn't got yet or has lost already.
func TestNoRouteEverLeadsNowhere(t *testing.T) {
	variants(t, func(t *testing.T, v ads.Variant) {
		dir := t.TempDir()
		write(t, dir, map[string]string{"clusters.yaml": staticCluster("c0"), "routes.yaml": routes("c0")})
		s, _ := serveFolder(t, dir)
		p := connect(t, v, s.Addresses()[0], "n", "")
		p.until("the first routes", func() bool { return p.refs["routes"] == "c0" })
		rnd := rand.New(rand.NewPCG(1, 2))
		for i := 1; i <= 25; i++ {
			name := fmt.Sprintf("c%d", i)
			content := edsCluster(name)
			for range rnd.IntN(3) {
				content += "---\n" + staticCluster(fmt.Sprintf("x%d", rnd.IntN(1000)))
			}
			// One file after the other, as people do; the debounce may see both or one. What
			// routes need is saved first: nobody could guess a cluster that is nowhere yet.
			write(t, dir, map[string]string{"clusters.yaml": content + "---\n" + staticCluster(fmt.Sprintf("c%d-next", i))})
			write(t, dir, map[string]string{"routes.yaml": routes(name)})
			p.until("routes to "+name, func() bool { return p.refs["routes"] == name })
		}
		p.until("what is gone to go", func() bool { return !strings.Contains(p.names(ads.ClusterType), "c24") })
		if len(p.lost) > 0 {
			t.Errorf("%d times: %v", len(p.lost), p.lost[0])
		}
	})
}

func TestBrokenFileThenRepaired(t *testing.T) {
	variants(t, func(t *testing.T, v ads.Variant) {
		dir := t.TempDir()
		write(t, dir, map[string]string{"a.yaml": staticCluster("a"), "b.yaml": staticCluster("b")})
		s, log := serveFolder(t, dir)
		p := connect(t, v, s.Addresses()[0], "n", "")
		p.until("a and b", func() bool { return p.names(ads.ClusterType) == "cluster a, cluster b" })
		write(t, dir, map[string]string{"a.yaml": "name: a\ntype: STATIC\nconect_timeout: 1s\n", "c.yaml": staticCluster("c")})
		p.until("c beside the old a", func() bool { return p.names(ads.ClusterType) == "cluster a, cluster b, cluster c" })
		if !strings.Contains(log.String(), "a.yaml:3: conect_timeout") {
			t.Error("the log doesn't say what is wrong where")
		}
		write(t, dir, map[string]string{"a.yaml": staticCluster("a2"), "b.yaml": ""})
		p.until("a2 for a, b gone", func() bool { return p.names(ads.ClusterType) == "cluster a2, cluster c" })
		for _, want := range []string{"file is good again", "added cluster c", "added cluster a2", "removed cluster b", "node connected"} {
			if !strings.Contains(log.String(), want) {
				t.Errorf("the log doesn't say %q", want)
			}
		}
	})
}

func TestFoldersOfNodes(t *testing.T) {
	variants(t, func(t *testing.T, v ads.Variant) {
		dir := t.TempDir()
		write(t, dir, map[string]string{"all.yaml": staticCluster("shared"), "cart/x.yaml": staticCluster("for-cart")})
		s, _ := serveFolder(t, dir)
		byCluster := connect(t, v, s.Addresses()[0], "pod-1", "cart")
		byID := connect(t, v, s.Addresses()[0], "web-1", "web")
		byCluster.until("its cluster's folder", func() bool { return byCluster.names(ads.ClusterType) == "cluster for-cart, cluster shared" })
		byID.until("the folder", func() bool { return byID.names(ads.ClusterType) == "cluster shared" })
		// A folder that appears while its node is connected.
		write(t, dir, map[string]string{"web-1/x.yaml": staticCluster("for-web-1")})
		byID.until("its own folder", func() bool { return byID.names(ads.ClusterType) == "cluster for-web-1, cluster shared" })
		write(t, dir, map[string]string{"web-1/x.yaml": staticCluster("for-web-2")})
		byID.until("a change in it", func() bool { return byID.names(ads.ClusterType) == "cluster for-web-2, cluster shared" })
	})
}

func TestDeltaIsToldWhatDoesNotExist(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, map[string]string{"c.yaml": "{name: empty, type: EDS, eds_cluster_config: {eds_config: {ads: {}}}}\n"})
	s, _ := serveFolder(t, dir)
	h := &gone{names: make(chan string, 10)}
	c, err := ads.New(ads.Config{Addresses: s.Addresses(), Variant: ads.Delta, Handler: h,
		DialOptions: []grpc.DialOption{grpc.WithTransportCredentials(insecure.NewCredentials())}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- c.Run(ctx) }()
	defer func() { cancel(); <-done }()
	c.Subscribe(ads.EndpointType, 0, "empty")
	select {
	case name := <-h.names:
		if name != "empty" {
			t.Errorf("told that %q doesn't exist", name)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("not told in 10 s that the endpoints don't exist")
	}
	// When they come to be, they are sent.
	write(t, dir, map[string]string{"e.yaml": "{cluster_name: empty}\n"})
	select {
	case name := <-h.names:
		if name != "+empty" {
			t.Errorf("got %q", name)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("not sent in 10 s")
	}
}

type gone struct{ names chan string }

func (g *gone) Apply(u ads.Update) []ads.Refusal {
	for _, r := range u.Changed {
		g.names <- "+" + r.Name
	}
	for _, n := range u.Removed {
		g.names <- n
	}
	return nil
}

func (g *gone) FetchTimedOut(string, string) {}

func TestRefusalIsLogged(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, map[string]string{"c.yaml": staticCluster("c")})
	s, log := serveFolder(t, dir, "unix:"+filepath.Join(t.TempDir(), "xds.sock"))
	p := connect(t, ads.Delta, s.Addresses()[0], "n", "")
	p.until("c", func() bool { return p.names(ads.ClusterType) == "cluster c" })
	p.mu.Lock()
	p.refuse = "c"
	p.mu.Unlock()
	write(t, dir, map[string]string{"c.yaml": staticCluster("c") + "alt_stat_name: x\n", "d.yaml": staticCluster("d")})
	p.until("d", func() bool { return strings.Contains(p.names(ads.ClusterType), "cluster d") })
	log.await(t, "c: alt_stat_name: not today")
}

func TestStartIsRefusedForBrokenFilesUnlessSkipped(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, map[string]string{"bad.yaml": "name: c\ntype: NO\n", "good.yaml": staticCluster("g")})
	o := Options{Dir: dir, Listen: []string{"127.0.0.1:0"}, Logger: slog.New(slog.DiscardHandler)}
	if _, err := New(o); err == nil || !strings.Contains(err.Error(), "bad.yaml:2: type") {
		t.Errorf("error %v", err)
	}
	o.SkipBroken = true
	s, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	if got := list(s.last.Sets[""]); got != "cluster g" {
		t.Errorf("serves %s", got)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Run(ctx); err != nil {
		t.Errorf("Run: %v", err)
	}
	for dirOrAddr, o := range map[string]Options{
		"/nonexistent": {Dir: "/nonexistent", Listen: []string{"127.0.0.1:0"}},
		"no address":   {Dir: dir},
		"listen on":    {Dir: dir, Listen: []string{"256.0.0.1:0"}, SkipBroken: true},
	} {
		o.Logger = slog.New(slog.DiscardHandler)
		if _, err := New(o); err == nil || !strings.Contains(err.Error(), dirOrAddr) {
			t.Errorf("error %v, want one with %q", err, dirOrAddr)
		}
	}
}
