package l4

import (
	"errors"
	"slices"
	"sync"

	"github.com/mecha-mesh/mecha/proxy/filter"
)

// lineup is the filters of a chain as they are configured at one moment. There is one
// for the life of a chain, unless some filter's configuration is discovered (ECDS): then
// each new one replaces it for the connections to come, and those under way keep theirs.
type lineup struct {
	filter.Generation
	makers  []func() filter.Network
	missing bool      // the configuration of a filter has not come: nothing may pass
	pool    sync.Pool // *set
}

// makeFilters makes the first lineup, and follows the discovered filters, if there are any.
func (c *chain) makeFilters() error {
	env := c.env
	env.Retire = c.onRetire
	fixed := make([]func() filter.Network, len(c.spec.Filters))
	var sources []*filter.ExtensionSource
	for i, f := range c.spec.Filters {
		if f.Discovered {
			if env.Extensions == nil {
				return filter.AtIndex("filters", i, errors.New("there is nowhere to discover it"))
			}
			sources = append(sources, env.Extensions(filter.ExtensionKey{Kind: filter.NetworkExtension, Name: f.Name}))
			continue
		}
		env.Name = f.Name
		var err error
		if fixed[i], err = f.Factory(env); err != nil {
			return filter.AtIndex("filters", i, err)
		}
	}
	c.discovered = len(sources) > 0
	if err := filter.Follow(sources, c.onRetire, func() error { return c.renew(fixed) }); err != nil {
		return err
	}
	if c.discovered {
		c.onRetire(func() { c.live.Load().Close() })
	}
	return nil
}

// renew makes a lineup of what is configured now.
func (c *chain) renew(fixed []func() filter.Network) error {
	l := &lineup{}
	if err := c.fill(l, fixed); err != nil {
		l.Close()
		return err
	}
	if old := c.live.Swap(l); old != nil {
		old.Replaced()
	}
	return nil
}

func (c *chain) fill(l *lineup, fixed []func() filter.Network) error {
	env := c.env
	env.Retire = l.OnRetire
	for i, f := range c.spec.Filters {
		mk := fixed[i]
		if f.Discovered {
			factory, ok := env.Extensions(filter.ExtensionKey{Kind: filter.NetworkExtension, Name: f.Name}).Current().(filter.NetworkFactory)
			if !ok {
				factory = f.Factory
			}
			if factory == nil {
				l.missing = true
				continue
			}
			env.Name = f.Name
			var err error
			if mk, err = factory(env); err != nil {
				return filter.AtIndex("filters", i, err)
			}
		}
		if mk == nil {
			continue
		}
		if err := checkHooks(mk(), f.Name, i == len(fixed)-1); err != nil {
			return filter.AtIndex("filters", i, err)
		}
		l.makers = append(l.makers, mk)
	}
	if len(l.makers) == 0 && !l.missing {
		return filter.At("filters", errors.New("no network filter: a chain needs a terminal one, such as tcp_proxy or http_connection_manager"))
	}
	return nil
}

// errNoConfig is the end of a connection for which the configuration of a filter is missing.
var errNoConfig = errors.New("the configuration of a filter has not come")

// incomplete reports whether the configuration of a filter is missing.
func (c *chain) incomplete() bool { return c.discovered && c.live.Load().missing }

// take returns filters for one connection.
func (c *chain) take() (*set, error) {
	l := c.live.Load()
	if c.discovered {
		l = filter.EnterNewest(&c.live)
		if l.missing {
			l.Leave()
			return nil, errNoConfig
		}
	}
	if s, ok := l.pool.Get().(*set); ok {
		return s, nil
	}
	s := &set{of: l}
	for _, mk := range l.makers {
		s.add(mk())
	}
	slices.Reverse(s.write)
	return s, nil
}

// give takes back the filters of a connection that has ended in good order.
func (c *chain) give(s *set) {
	for _, f := range s.all {
		f.Reset()
	}
	s.of.pool.Put(s)
	c.drop(s)
}

// drop is give for filters that are not to be used again.
func (c *chain) drop(s *set) {
	if c.discovered {
		s.of.Leave()
	}
}
