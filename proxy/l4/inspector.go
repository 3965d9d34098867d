package l4

import (
	"errors"
	"sync/atomic"

	"github.com/mecha-mesh/mecha/proxy/filter"
)

// inspector is one listener filter in use.
type inspector struct {
	filter.Listener // nil where found is set
	disabled        *Predicate
	found           *found // the configuration comes over ECDS; nil: it does not
}

// found is a listener filter whose configuration is discovered.
type found struct {
	live atomic.Pointer[finding]
}

// finding is what was configured at one moment.
type finding struct {
	filter.Generation
	in      filter.Listener // nil: not in the path
	missing bool            // no configuration has come: nothing may pass
}

// errNoInspector is the end of a connection for which the configuration of a listener
// filter is missing.
var errNoInspector = errors.New("the configuration of a listener filter has not come")

func (l *Listener) makeInspectors(cfg *config) error {
	for i, f := range cfg.spec.Filters {
		env := l.env(cfg.spec)
		env.Name = f.Name
		env.Retire = func(f func()) { cfg.retire = append(cfg.retire, f) }
		in := inspector{disabled: f.Disabled}
		var err error
		if f.Discovered {
			in.found, err = discover(f, env)
		} else {
			in.Listener, err = f.Factory(env)
		}
		if err != nil {
			return filter.AtIndex("listener_filters", i, err)
		}
		if in.Listener != nil || in.found != nil {
			cfg.filters = append(cfg.filters, in)
		}
	}
	return nil
}

// discover makes a listener filter of what is configured now, and follows that.
func discover(f ListenerFilter, env filter.Env) (*found, error) {
	if env.Extensions == nil {
		return nil, errors.New("there is nowhere to discover it")
	}
	source := env.Extensions(filter.ExtensionKey{Kind: filter.ListenerExtension, Name: f.Name})
	d := &found{}
	renew := func() error { return d.renew(source, f.Factory, env) }
	if err := filter.Follow([]*filter.ExtensionSource{source}, env.OnRetire, renew); err != nil {
		return nil, err
	}
	env.OnRetire(func() { d.live.Load().Close() })
	return d, nil
}

// renew makes the filter that is configured now; def is its default, or nil.
func (d *found) renew(source *filter.ExtensionSource, def filter.ListenerFactory, env filter.Env) error {
	factory, ok := source.Current().(filter.ListenerFactory)
	if !ok {
		factory = def
	}
	now := &finding{missing: factory == nil}
	if factory != nil {
		env.Retire = now.OnRetire
		var err error
		if now.in, err = factory(env); err != nil {
			now.Close()
			return err
		}
	}
	if old := d.live.Swap(now); old != nil {
		old.Replaced()
	}
	return nil
}

// incomplete reports whether the configuration of a listener filter is missing.
func (cfg *config) incomplete() bool {
	for i := range cfg.filters {
		if f := cfg.filters[i].found; f != nil && f.live.Load().missing {
			return true
		}
	}
	return false
}

// Inspect implements filter.Listener.
func (in *inspector) Inspect(p filter.Peeker) error {
	if in.found == nil {
		return in.Listener.Inspect(p)
	}
	f := filter.EnterNewest(&in.found.live)
	defer f.Leave()
	switch {
	case f.missing:
		return errNoInspector
	case f.in == nil:
		return nil
	}
	return f.in.Inspect(p)
}
