package l7

import "github.com/mecha-mesh/mecha/proxy/filter"

// newUpgrades makes the factories of upgrades that have filters of their own, by type.
// chains are the filters of each upgrade of the spec.
func newUpgrades(spec *Spec, chains [][]Filter, env filter.Env, slot func(string) filter.Slot) (map[string]*factory, error) {
	var out map[string]*factory
	for i, u := range spec.Upgrades {
		if chains[i] == nil {
			continue
		}
		own, top := env, env.Stats.Scope("http") // the same names once more: they add up
		own.Parent = top.Tag("envoy_http_conn_manager_prefix", spec.StatPrefix)
		env.OnRetire(top.Close)
		f, err := newFactory(chains[i], own, slot)
		if err != nil {
			return nil, filter.AtIndex("upgrade_configs", i, filter.At("filters", err))
		}
		if out == nil {
			out = map[string]*factory{}
		}
		out[u.Type] = f
	}
	return out, nil
}

// factory is what the stream's chain was built by.
func (st *stream) factory() *factory {
	if st.own != nil {
		return st.gen.upgrades[st.upgrade]
	}
	return st.gen.factory
}

// useChainOf serves an upgrade by the filters that are configured for its type, if any.
func (st *stream) useChainOf(upgrade string) {
	if f := st.gen.upgrades[upgrade]; f != nil {
		st.own, st.chain = st.chain, f.build() // upgrades are rare, and long
		st.off = f.off(st.Route)
		st.Why.Begin(f.names)
		st.Lasting = st.Lasting || len(st.chain.done) > 0
	}
}
