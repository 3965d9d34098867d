package l7

import (
	"fmt"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/meta"
)

// generation is the chain of filters of one moment, with the streams that were made
// with it. There is one for the life of a connection manager, unless some filter's
// configuration is discovered (ECDS): then each new one replaces it for the streams to
// come, and those under way keep what they began with.
type generation struct {
	factory *factory
	streams sync.Pool

	discovered bool         // what follows counts
	active     atomic.Int64 // streams under way
	over       atomic.Bool  // replaced
	once       sync.Once
	mu         sync.Mutex
	retire     []func() // what filters registered with Env.OnRetire
}

// begin returns a stream of the newest generation.
func (m *Manager) begin() *stream {
	g := m.live.Load()
	if g.discovered {
		g = m.enter()
	}
	return g.streams.Get().(*stream)
}

func (m *Manager) enter() *generation {
	for {
		g := m.live.Load()
		g.active.Add(1)
		if m.live.Load() == g {
			return g
		}
		g.leave()
	}
}

// end takes a stream back.
func (g *generation) end(st *stream) {
	g.streams.Put(st)
	if g.discovered {
		g.leave()
	}
}

func (g *generation) leave() {
	if g.active.Add(-1) == 0 && g.over.Load() {
		g.close()
	}
}

// replaced is called when a newer generation is in use.
func (g *generation) replaced() {
	g.over.Store(true)
	if g.active.Load() == 0 {
		g.close()
	}
}

// close gives back what the filters hold, once no stream uses them.
func (g *generation) close() {
	g.once.Do(func() {
		g.mu.Lock()
		fs := g.retire
		g.retire = nil
		g.mu.Unlock()
		for _, f := range fs {
			f()
		}
	})
}

func (g *generation) onRetire(f func()) {
	g.mu.Lock()
	g.retire = append(g.retire, f)
	g.mu.Unlock()
}

// build makes the first generation, and follows the discovered filters, if there are any.
func (m *Manager) build(env filter.Env, slot func(string) filter.Slot) error {
	var sources []*filter.ExtensionSource
	for _, f := range m.spec.Filters {
		if !f.Discovered {
			continue
		}
		if env.Extensions == nil {
			return fmt.Errorf("http_filters: %s: there is nowhere to discover it", f.Name)
		}
		sources = append(sources, env.Extensions(filter.ExtensionKey{Kind: filter.HTTPExtension, Name: f.Name}))
	}
	filters := m.spec.Filters
	if len(sources) > 0 {
		filters = onceEach(filters, env)
	}
	if err := m.renew(filters, env, slot, len(sources) > 0); err != nil {
		return err
	}
	if len(sources) == 0 {
		return nil
	}
	var mu sync.Mutex // one renewal at a time
	for _, s := range sources {
		stop := s.Watch(func() error {
			mu.Lock()
			defer mu.Unlock()
			return m.renew(filters, env, slot, true)
		})
		env.OnRetire(stop)
	}
	env.OnRetire(func() { m.live.Load().close() })
	return nil
}

// onceEach lets the filters that are not discovered be built once, for all generations.
func onceEach(filters []Filter, env filter.Env) []Filter {
	filters = slices.Clone(filters)
	for i := range filters {
		if filters[i].Discovered {
			continue
		}
		factory, built := filters[i].Factory, false
		var mk func() filter.HTTP
		filters[i].Factory = func(own filter.Env) (func() filter.HTTP, error) {
			if built {
				return mk, nil
			}
			own.Retire, own.Parent = env.Retire, env.Parent
			var err error
			mk, err = factory(own)
			built = err == nil
			return mk, err
		}
	}
	return filters
}

// renew makes a generation of what is configured now.
func (m *Manager) renew(all []Filter, env filter.Env, slot func(string) filter.Slot, discovered bool) error {
	g := &generation{discovered: discovered}
	filters := all
	if discovered {
		top := env.Stats.Scope("http")
		g.onRetire(top.Close)
		env.Retire, env.Parent = g.onRetire, top.Tag("envoy_http_conn_manager_prefix", m.spec.StatPrefix)
		filters = slices.Clone(all)
		for i, f := range filters {
			if f.Discovered {
				filters[i].Factory = discoveredFactory(env, f)
			}
		}
	}
	var err error
	if g.factory, err = newFactory(filters, env, slot); err != nil {
		g.close()
		return err
	}
	g.streams.New = func() any { return newStream(m, g) }
	if old := m.live.Swap(g); old != nil {
		old.replaced()
	}
	return nil
}

// discoveredFactory is the factory of now: what came, else default_config, else one
// that lets nothing pass.
func discoveredFactory(env filter.Env, f Filter) filter.HTTPFactory {
	s := env.Extensions(filter.ExtensionKey{Kind: filter.HTTPExtension, Name: f.Name})
	if c, ok := s.Current().(filter.HTTPFactory); ok {
		return c
	}
	if f.Factory != nil {
		return f.Factory
	}
	return func(filter.Env) (func() filter.HTTP, error) {
		return func() filter.HTTP { return missing{} }, nil
	}
}

// missing stands in for a filter whose configuration has not come: without it, what it
// guards must not be reached.
type missing struct{}

// Reset implements filter.HTTP.
func (missing) Reset() {}

// OnRequestHeaders implements filter.RequestHeaders.
func (missing) OnRequestHeaders(*filter.Stream, bool) error {
	return &filter.Reply{Code: 500, Flags: meta.NoFilterConfigFound}
}
