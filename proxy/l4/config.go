package l4

import (
	"slices"

	"github.com/mecha-mesh/mecha/proxy/accesslog"
	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/meta"
	"github.com/mecha-mesh/mecha/proxy/transport"
)

// compile makes the runtime of a spec. Chains that have not changed are taken over
// from the version in use.
func (l *Listener) compile(spec *Spec) (*config, error) {
	cfg := &config{spec: spec}
	if err := cfg.makeMatcher(); err != nil {
		return nil, err
	}
	if err := l.makeInspectors(cfg); err != nil {
		cfg.end()
		return nil, err
	}
	logs, err := accesslog.OpenSet(spec.Logs, l.m.o.Env.Logs)
	if err != nil {
		cfg.end()
		return nil, err
	}
	cfg.logs = logs
	cfg.retire = append(cfg.retire, logs.Close)
	before := l.cfg.Load()
	for i, c := range spec.Chains {
		cfg.chains = append(cfg.chains, l.chain(before, c, filter.AtIndex("filter_chains", i, errNoChain).(*filter.PathError).Path, spec))
	}
	if spec.Default != nil {
		cfg.chains = append(cfg.chains, l.chain(before, spec.Default, "default_filter_chain", spec))
	}
	if spec.Unbound {
		return cfg, nil // built when the first connection comes
	}
	for _, c := range cfg.chains {
		if err := c.build(); err != nil {
			cfg.endExcept(before)
			return nil, err
		}
	}
	return cfg, nil
}

// chain returns the runtime of a chain: the one in use if it is the same.
func (l *Listener) chain(before *config, spec *Chain, path string, of *Spec) *chain {
	if before != nil && spec.Hash != 0 {
		for _, c := range before.chains {
			if c.spec.Hash == spec.Hash && c.env.BufferLimit == of.BufferLimit {
				return c
			}
		}
	}
	c := &chain{spec: spec, path: path, env: l.env(of), socket: spec.Socket}
	if _, plain := spec.Socket.(transport.Raw); !plain && spec.Socket != nil {
		c.tls = l.tlsStats()
	}
	if of.Metadata != nil || spec.Metadata != nil {
		c.about = &meta.Configured{Listener: of.Metadata, FilterChain: spec.Metadata}
	}
	return c
}

// tlsStats returns the counters of handshakes, which are there once a chain has any.
func (l *Listener) tlsStats() *transport.TLSStats {
	l.tlsOnce.Do(func() { l.tls = transport.NewTLSStats(l.scope, true) })
	return l.tls
}

func (l *Listener) env(of *Spec) filter.Env {
	env := l.m.o.Env
	env.Parent, env.Outbound, env.BufferLimit = l.scope, of.Direction == Outbound, of.BufferLimit
	return env
}

// end gives back what a version that was never in use holds.
func (cfg *config) end() { cfg.endExcept(nil) }

// endExcept is end for what other does not use.
func (cfg *config) endExcept(other *config) {
	for _, f := range slices.Backward(cfg.retire) {
		f()
	}
	cfg.retire = nil
	for _, c := range cfg.chains {
		if other == nil || !slices.Contains(other.chains, c) {
			c.end()
		}
	}
}
