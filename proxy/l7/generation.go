package l7

import (
	"fmt"
	"slices"
	"sync"

	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/meta"
)

// generation is the chain of filters of one moment, with the streams that were made
// with it. There is one for the life of a connection manager, unless some filter's
// configuration is discovered (ECDS): then each new one replaces it for the streams to
// come, and those under way keep what they began with.
type generation struct {
	filter.Generation
	factory  *factory
	upgrades map[string]*factory // of upgrades that have filters of their own
	streams  sync.Pool

	discovered bool // who uses it is counted
}

// begin returns a stream of the newest generation.
func (m *Manager) begin() *stream {
	g := m.live.Load()
	if g.discovered {
		g = filter.EnterNewest(&m.live)
	}
	return g.streams.Get().(*stream)
}

// end takes a stream back.
func (g *generation) end(st *stream) {
	g.streams.Put(st)
	if g.discovered {
		g.Leave()
	}
}

// build makes the first generation, and follows the discovered filters, if there are any.
func (m *Manager) build(env filter.Env, slot func(string) filter.Slot) error {
	chains := chainsOf(m.spec)
	var sources []*filter.ExtensionSource
	for _, filters := range chains {
		for _, f := range filters {
			if !f.Discovered {
				continue
			}
			if env.Extensions == nil {
				return fmt.Errorf("%s: there is nowhere to discover it", f.Name)
			}
			sources = append(sources, env.Extensions(filter.ExtensionKey{Kind: filter.HTTPExtension, Name: f.Name}))
		}
	}
	if len(sources) == 0 {
		return m.renew(chains, env, slot, false)
	}
	chains[0] = onceEach(chains[0], env)
	for i := range chains[1:] {
		own, top := env, env.Stats.Scope("http") // see newUpgrades
		own.Parent = top.Tag("envoy_http_conn_manager_prefix", m.spec.StatPrefix)
		env.OnRetire(top.Close)
		chains[i+1] = onceEach(chains[i+1], own)
	}
	if err := filter.Follow(sources, env.OnRetire, func() error { return m.renew(chains, env, slot, true) }); err != nil {
		return err
	}
	env.OnRetire(func() { m.live.Load().Close() })
	return nil
}

// chainsOf returns the filters of a connection manager, and then those of each upgrade.
func chainsOf(spec *Spec) [][]Filter {
	out := [][]Filter{spec.Filters}
	for _, u := range spec.Upgrades {
		out = append(out, u.Filters)
	}
	return out
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
func (m *Manager) renew(chains [][]Filter, env filter.Env, slot func(string) filter.Slot, discovered bool) error {
	g := &generation{discovered: discovered}
	if discovered {
		top := env.Stats.Scope("http")
		g.OnRetire(top.Close)
		env.Retire, env.Parent = g.OnRetire, top.Tag("envoy_http_conn_manager_prefix", m.spec.StatPrefix)
		chains = slices.Clone(chains)
		for i := range chains {
			chains[i] = found(env, chains[i])
		}
	}
	var err error
	if g.factory, err = newFactory(chains[0], env, slot); err != nil {
		err = filter.At("http_filters", err)
	} else {
		g.upgrades, err = newUpgrades(m.spec, chains[1:], env, slot)
	}
	if err != nil {
		g.Close()
		return err
	}
	g.streams.New = func() any { return newStream(m, g) }
	if old := m.live.Swap(g); old != nil {
		old.Replaced()
	}
	return nil
}

// found gives the discovered filters of a chain the factories of now.
func found(env filter.Env, filters []Filter) []Filter {
	filters = slices.Clone(filters)
	for i, f := range filters {
		if f.Discovered {
			filters[i].Factory = discoveredFactory(env, f)
		}
	}
	return filters
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
