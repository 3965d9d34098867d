package control

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"sync"
	"sync/atomic"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	cachev3 "github.com/envoyproxy/go-control-plane/pkg/cache/v3"
	serverv3 "github.com/envoyproxy/go-control-plane/pkg/server/v3"

	statuspb "google.golang.org/genproto/googleapis/rpc/status"

	"github.com/mecha-mesh/mecha/xds/ads"
)

// hub knows the connected nodes and walks each of them, on its own, from the set it
// is served to the one it shall be served.
type hub struct {
	ctx   context.Context
	log   *slog.Logger
	cache cachev3.SnapshotCache
	ack   time.Duration // longest wait for a node to take new clusters
	grace time.Duration // how long what is gone stays after the last reference went
	wg    sync.WaitGroup

	mu       sync.Mutex
	groups   map[string]*published
	plans    map[[2]*published][]*published
	nodes    map[string]*node
	streams  map[streamID]*stream
	answered chan struct{} // closed and replaced with every answer of a node
}

// published is a set with its snapshot, shared by the nodes that are served it.
type published struct {
	set   Set
	snap  *cachev3.Snapshot
	hosts hostTables
}

// node is one proxy, by id and cluster, with at least one stream.
type node struct {
	key     string
	id      string
	cluster string
	streams int
	now     *published
	served  atomic.Pointer[published] // now, for who must not wait for the hub
	target  *published
	cancel  context.CancelFunc // of the walk under way
	walked  chan struct{}      // closed when it has ended
}

// streamID: the two variants count apart.
type streamID struct {
	delta bool
	n     int64
}

type stream struct {
	node     *node
	sent     map[string]sent   // by type: the last response
	answered map[string]string // by type: the version last accepted or refused
	hosts    map[string]bool   // names of virtual hosts that it has asked for (delta)
}

type sent struct{ nonce, version string }

func newHub(ctx context.Context, log *slog.Logger, ack, grace time.Duration) *hub {
	h := &hub{
		ctx: ctx, log: log, ack: ack, grace: grace,
		groups: map[string]*published{}, plans: map[[2]*published][]*published{},
		nodes: map[string]*node{}, streams: map[streamID]*stream{}, answered: make(chan struct{}),
	}
	// Without the cache's own ADS mode: it would answer a request for some routes or
	// endpoints only when it names all there are.
	h.cache = cachev3.NewSnapshotCache(false, nodeKey{}, quietLog{})
	return h
}

// nodeKey tells nodes apart by id and cluster.
type nodeKey struct{}

// ID is the key of a node in the cache.
func (nodeKey) ID(n *corev3.Node) string { return n.GetId() + "\x00" + n.GetCluster() }

// quietLog drops the cache's own log: what matters is logged here, in words.
type quietLog struct{}

func (quietLog) Debugf(string, ...any) {}
func (quietLog) Infof(string, ...any)  {}
func (quietLog) Warnf(string, ...any)  {}
func (quietLog) Errorf(string, ...any) {}

// publish makes the sets what nodes shall be served. It does not wait for them.
func (h *hub) publish(sets map[string]Set) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	groups := map[string]*published{}
	for name, set := range sets {
		if old := h.groups[name]; old != nil {
			var kept []string
			if set, kept = keepReferred(old.set, set); len(kept) > 0 {
				h.log.Warn("clusters are gone that routes or listeners still send to; they are served until nothing refers to them", "folder", name, "clusters", kept)
			}
			if same(old.set, set) {
				groups[name] = old
				continue
			}
		}
		p, err := newPublished(set)
		if err != nil {
			return err
		}
		groups[name] = p
	}
	h.groups = groups
	clear(h.plans)
	for _, n := range h.nodes {
		h.retarget(n)
	}
	return nil
}

func newPublished(s Set) (*published, error) {
	snap, err := snapshot(s)
	return &published{s, snap, newHostTables(s)}, err
}

// groupOf finds the subfolder meant for a node: by id, by cluster, else the folder.
func (h *hub) groupOf(n *node) (string, *published) {
	for _, name := range []string{n.id, n.cluster} {
		if p := h.groups[name]; p != nil && name != "" {
			return name, p
		}
	}
	return "", h.groups[""]
}

// retarget starts a node's walk to what it shall be served now. Called with mu held.
func (h *hub) retarget(n *node) {
	_, target := h.groupOf(n)
	if target == n.target {
		return
	}
	n.target = target
	before := n.walked
	n.cancel()
	ctx, cancel := context.WithCancel(h.ctx)
	n.cancel, n.walked = cancel, make(chan struct{})
	done := n.walked
	h.wg.Go(func() {
		defer close(done)
		<-before
		h.walk(ctx, n, target)
	})
}

func (h *hub) walk(ctx context.Context, n *node, target *published) {
	h.mu.Lock()
	from := n.now
	plan, err := h.plan(from, target)
	h.mu.Unlock()
	if err != nil {
		h.log.Error("cannot encode the configuration", "node", n.id, "error", err)
		return
	}
	if len(plan) > 0 && from != nil {
		// The walk before may have been called off while it waited for this: its stage is
		// where this one begins, and nothing may build on what has not arrived.
		h.awaitClusters(ctx, n, from)
	}
	for i, stage := range plan {
		if !h.serve(ctx, n, stage) {
			return
		}
		if i == len(plan)-1 {
			return
		}
		if differs(from.set, stage.set, ads.ClusterType) {
			h.awaitClusters(ctx, n, stage)
		}
		if i == len(plan)-2 && removes(stage.set, target.set) {
			wait(ctx, h.grace)
		}
		from = stage
	}
}

func removes(old, new Set) bool {
	for k := range old {
		if _, ok := new[k]; !ok {
			return true
		}
	}
	return false
}

// plan is stages with snapshots, shared by the nodes that go the same way. Called
// with mu held.
func (h *hub) plan(from, to *published) ([]*published, error) {
	way := [2]*published{from, to}
	if p, ok := h.plans[way]; ok {
		return p, nil
	}
	var out []*published
	for _, s := range stages(from.set, to.set) {
		if same(s, to.set) {
			out = append(out, to)
			continue
		}
		p, err := newPublished(s)
		if err != nil {
			return nil, err
		}
		out = append(out, p)
	}
	h.plans[way] = out
	return out, nil
}

// serve gives a stage to the cache; false when the walk is over.
func (h *hub) serve(ctx context.Context, n *node, p *published) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if ctx.Err() != nil || h.nodes[n.key] != n {
		return false
	}
	n.now = p
	n.served.Store(p)
	if err := h.cache.SetSnapshot(h.ctx, n.key, p.snap); err != nil {
		if !errors.Is(err, context.Canceled) {
			h.log.Error("cannot serve", "node", n.id, "error", err)
		}
		return false
	}
	return true
}

// awaitClusters waits until every stream of the node that asks for clusters has
// answered this stage's, which Envoy and mecha do once new clusters are usable.
func (h *hub) awaitClusters(ctx context.Context, n *node, p *published) {
	version := p.snap.GetVersion(ads.ClusterType)
	limit := time.NewTimer(h.ack)
	defer limit.Stop()
	for {
		h.mu.Lock()
		ready := true
		for _, st := range h.streams {
			if v, asks := st.answered[ads.ClusterType]; st.node == n && asks && v != version {
				ready = false
			}
		}
		changed := h.answered
		h.mu.Unlock()
		if ready {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-limit.C:
			h.log.Warn("node did not answer the new clusters in time; going on", "node", n.id, "waited", h.ack)
			return
		case <-changed:
		}
	}
}

func wait(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}

// close waits for the walks under way; ctx must have ended.
func (h *hub) close() { h.wg.Wait() }

// callbacks follow what go-control-plane's server sees.
func (h *hub) callbacks() serverv3.Callbacks {
	return serverv3.CallbackFuncs{
		StreamRequestFunc: func(id int64, r *discoveryv3.DiscoveryRequest) error {
			h.request(streamID{false, id}, r)
			return nil
		},
		StreamDeltaRequestFunc: func(id int64, r *discoveryv3.DeltaDiscoveryRequest) error {
			h.request(streamID{true, id}, r)
			h.onHosts(streamID{true, id}, r.GetTypeUrl(), func(st *stream) { st.askHosts(r) })
			return nil
		},
		StreamResponseFunc: func(_ context.Context, id int64, _ *discoveryv3.DiscoveryRequest, r *discoveryv3.DiscoveryResponse) {
			h.response(streamID{false, id}, r.GetTypeUrl(), sent{r.GetNonce(), r.GetVersionInfo()})
		},
		StreamDeltaResponseFunc: func(id int64, _ *discoveryv3.DeltaDiscoveryRequest, r *discoveryv3.DeltaDiscoveryResponse) {
			h.response(streamID{true, id}, r.GetTypeUrl(), sent{r.GetNonce(), r.GetSystemVersionInfo()})
			h.onHosts(streamID{true, id}, r.GetTypeUrl(), func(st *stream) { st.alias(r) }) // it is not sent yet
		},
		StreamClosedFunc:      func(id int64, _ *corev3.Node) { h.closed(streamID{false, id}) },
		DeltaStreamClosedFunc: func(id int64, _ *corev3.Node) { h.closed(streamID{true, id}) },
	}
}

func (h *hub) request(id streamID, r message) {
	h.mu.Lock()
	defer h.mu.Unlock()
	st := h.streams[id]
	if st == nil {
		st = &stream{node: h.join(r.GetNode()), sent: map[string]sent{}, answered: map[string]string{}}
		h.streams[id] = st
	}
	url := r.GetTypeUrl()
	if _, asks := st.answered[url]; !asks {
		st.answered[url] = ""
	}
	if s := st.sent[url]; r.GetResponseNonce() != "" && r.GetResponseNonce() == s.nonce {
		st.answered[url] = s.version
		close(h.answered)
		h.answered = make(chan struct{})
	}
	if e := r.GetErrorDetail(); e != nil {
		h.log.Warn("node refused resources", "node", st.node.id, "type", ads.ShortType(url), "detail", e.GetMessage())
	}
}

// onHosts calls f for a stream if a message on it is about virtual hosts.
func (h *hub) onHosts(id streamID, url string, f func(*stream)) {
	if url != ads.VirtualHostType {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if st := h.streams[id]; st != nil {
		f(st)
	}
}

// nodeOf returns the node of a request, nil if it has gone.
func (h *hub) nodeOf(c *corev3.Node) *node {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.nodes[nodeKey{}.ID(c)]
}

func (h *hub) response(id streamID, url string, s sent) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if st := h.streams[id]; st != nil {
		st.sent[url] = s
	}
}

// join finds or makes the node of a new stream and serves it at once.
func (h *hub) join(c *corev3.Node) *node {
	k := nodeKey{}.ID(c)
	n := h.nodes[k]
	if n == nil {
		done := make(chan struct{})
		close(done)
		n = &node{key: k, id: c.GetId(), cluster: c.GetCluster(), cancel: func() {}, walked: done}
		group, p := h.groupOf(n)
		n.now, n.target = p, p
		n.served.Store(p)
		h.nodes[k] = n
		if err := h.cache.SetSnapshot(h.ctx, k, p.snap); err != nil && !errors.Is(err, context.Canceled) {
			h.log.Error("cannot serve", "node", n.id, "error", err)
		}
		h.log.Info("node connected", "node", n.id, "cluster", n.cluster, "folder", group)
	}
	n.streams++
	return n
}

func (h *hub) closed(id streamID) {
	h.mu.Lock()
	defer h.mu.Unlock()
	st := h.streams[id]
	if st == nil {
		return // closed before its first request
	}
	delete(h.streams, id)
	n := st.node
	if n.streams--; n.streams == 0 {
		n.cancel()
		delete(h.nodes, n.key)
		h.cache.ClearSnapshot(n.key)
		h.log.Info("node disconnected", "node", n.id, "cluster", n.cluster)
	}
	close(h.answered)
	h.answered = make(chan struct{})
}

// message is what requests of both variants have.
type message interface {
	GetNode() *corev3.Node
	GetTypeUrl() string
	GetResponseNonce() string
	GetErrorDetail() *statuspb.Status
}

// answering adds to go-control-plane's cache what the delta protocol asks for and the
// cache leaves out: a name that does not exist is answered with its removal, so that
// the client need not wait for initial_fetch_timeout.
type answering struct {
	cachev3.SnapshotCache
	hub *hub
}

// CreateDeltaWatch is part of cachev3.Cache.
func (a answering) CreateDeltaWatch(r *cachev3.DeltaRequest, sub cachev3.Subscription, out chan cachev3.DeltaResponse) (func(), error) {
	name := func(asked string) string { return asked }
	if n := a.hub.nodeOf(r.GetNode()); n != nil && r.GetTypeUrl() == ads.VirtualHostType {
		name = n.served.Load().hosts.nameOf
		sub = hostSubscription{sub, n}
	}
	known := sub.ReturnedResources()
	var again map[string]string
	for _, asks := range r.GetResourceNamesSubscribe() {
		means := name(asks)
		if _, ok := known[means]; ok && means == asks || asks == ads.Wildcard {
			continue
		}
		if again == nil {
			again = maps.Clone(known)
			if again == nil {
				again = map[string]string{}
			}
		}
		again[means] = ""
	}
	if again != nil {
		sub = asked{sub, again}
	}
	return a.SnapshotCache.CreateDeltaWatch(r, sub, out)
}

// asked is a subscription that takes names asked for as known in no version.
type asked struct {
	cachev3.Subscription
	known map[string]string
}

// ReturnedResources is part of cachev3.Subscription.
func (a asked) ReturnedResources() map[string]string { return a.known }
