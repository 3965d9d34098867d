// Package telemetry is where what the proxy tells about its traffic goes: it makes tracers,
// and shares those of one configuration.
//
// What spans look like is in proxy/trace, how batches are sent in proxy/export.
package telemetry

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/mecha-mesh/mecha/proxy/cluster"
	"github.com/mecha-mesh/mecha/proxy/export"
	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/filter/call"
	"github.com/mecha-mesh/mecha/proxy/runtime"
	"github.com/mecha-mesh/mecha/proxy/stats"
	"github.com/mecha-mesh/mecha/proxy/trace"
)

// Options are what a Hub is made with.
type Options struct {
	Stats   *stats.Store
	Runtime *runtime.Runtime
	Node    filter.Node
	Version string // of this build, for collectors that ask
	// NodeMessage is the node as envoy.config.core.v3.Node, for services of Envoy's.
	NodeMessage []byte
	// Default is the provider of connection managers that name none; nil is none.
	Default any
}

// Hub is what exports telemetry of a process. It is safe for concurrent use.
type Hub struct {
	o      Options
	client *call.Client

	clusters cluster.Source

	mu      sync.Mutex
	shared  map[string]*shared
	closing sync.WaitGroup // of queues that nobody uses any more
}

// shared is a tracer, or what else is made once for one configuration.
type shared struct {
	users int
	value any
	close closer
}

// closer sends what is left until ctx ends, and gives back what something was made of.
type closer func(ctx context.Context)

// closeQueue closes a queue, and then gives back what its owner counts in.
func closeQueue(q *export.Queue, gone func()) closer {
	return func(ctx context.Context) {
		q.Close(ctx)
		gone()
	}
}

// New returns a Hub. It sends nothing before Connect.
func New(o Options) *Hub { return &Hub{o: o, shared: map[string]*shared{}} }

// Connect tells where the clusters are that telemetry goes to. It must be called before
// anything is built that uses the Hub.
func (h *Hub) Connect(c cluster.Source) { h.client, h.clusters = call.NewClient(c), c }

var _ trace.Source = (*Hub)(nil)

// Tracer implements trace.Source.
func (h *Hub) Tracer(provider any) (*trace.Tracer, func(), error) {
	if provider == nil {
		provider = h.o.Default
	}
	switch p := provider.(type) {
	case nil:
		return nil, func() {}, nil
	case *OpenTelemetry:
		return use(h, "otlp "+p.Key, func() (*trace.Tracer, closer) { return h.openTelemetry(p) })
	case *Zipkin:
		return use(h, "zipkin "+p.Key, func() (*trace.Tracer, closer) { return h.zipkin(p) })
	}
	return nil, nil, fmt.Errorf("telemetry: no tracer for %T", provider)
}

// use returns what is shared under a key, and makes it if nobody has it yet.
func use[T any](h *Hub, key string, build func() (T, closer)) (value T, release func(), err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	s := h.shared[key]
	if s == nil {
		s = &shared{}
		s.value, s.close = build()
		h.shared[key] = s
	}
	s.users++
	return s.value.(T), sync.OnceFunc(func() { h.release(key, s) }), nil
}

// lastWords is how long entries of a configuration that has gone may take to be sent.
const lastWords = 5 * time.Second

func (h *Hub) release(key string, s *shared) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if s.users--; s.users > 0 {
		return
	}
	delete(h.shared, key)
	h.closing.Go(func() {
		ctx, cancel := context.WithTimeout(context.Background(), lastWords)
		defer cancel()
		s.close(ctx)
	})
}

// Close sends what is left, until ctx ends.
func (h *Hub) Close(ctx context.Context) {
	h.mu.Lock()
	all := h.shared
	h.shared = map[string]*shared{}
	h.mu.Unlock()
	var wg sync.WaitGroup
	for _, s := range all {
		wg.Go(func() { s.close(ctx) })
	}
	wg.Wait()
	h.closing.Wait()
}

// setting returns a whole number that the runtime may change.
func (h *Hub) setting(key string, otherwise uint64) func() uint64 {
	return runtime.UintSetting{Key: key, Default: otherwise}.On(h.o.Runtime).Get
}

func (h *Hub) interval(key string, otherwise uint64) func() time.Duration {
	v := h.setting(key, otherwise)
	return func() time.Duration { return time.Duration(max(v(), 1)) * time.Millisecond }
}
