package l4

import (
	"errors"
	"fmt"

	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/match/tree"
)

// makeMatcher compiles how chains are chosen: by their own matches, or by the tree of
// the listener, which leads to their names.
func (cfg *config) makeMatcher() (err error) {
	spec := cfg.spec
	if spec.Matcher == nil {
		cfg.match, err = newMatcher(spec.Chains, spec.Default != nil)
		return err
	}
	cfg.names = map[string]int{}
	for i, c := range spec.Chains {
		at := func(field string, err error) error {
			return filter.AtIndex("filter_chains", i, filter.At(field, err))
		}
		if c.Name == "" {
			return at("name", errors.New("is required where there is a filter_chain_matcher"))
		}
		if other, taken := cfg.names[c.Name]; taken {
			return at("name", fmt.Errorf("filter_chains[%d] has the name %q, too", other, c.Name))
		}
		if !c.Match.empty() {
			return at("filter_chain_match", errors.New("must not be set where there is a filter_chain_matcher"))
		}
		cfg.names[c.Name] = i
	}
	return nil
}

func (m *Match) empty() bool {
	return m.DestinationPort == 0 && m.PrefixRanges == nil && m.ServerNames == nil && m.TransportProtocol == "" &&
		m.ApplicationProtocols == nil && m.DirectSourceRanges == nil && m.SourceType == AnySource && m.SourceRanges == nil &&
		m.SourcePorts == nil
}

// find returns the index of the connection's chain, that of the default chain (one
// more than the last), or none. What a tree leads to has no second choice: where it
// names a chain that is not there, there is none.
func (cfg *config) find(c *filter.Conn) int {
	if cfg.match != nil {
		return cfg.match.find(c.Meta)
	}
	name, res := cfg.spec.Matcher.Find(c)
	if res != tree.Match {
		if cfg.spec.Default != nil {
			return len(cfg.spec.Chains)
		}
		return none
	}
	if i, ok := cfg.names[name]; ok {
		return i
	}
	return none
}

// remember keeps what the chain of c was chosen by: filters may change filter state and
// metadata later, on their own goroutines, while a new version of the listener asks
// whether it has a chain for the connection.
func (c *conn) remember() {
	if c.fc.State.Len() > 0 || c.fc.Metadata.Len() > 0 {
		c.chosenBy = &filter.Conn{Meta: &c.meta, State: c.fc.State.Clone(), Metadata: c.fc.Metadata.Clone()}
	}
}

// wants reports whether cfg has a chain for a connection that has one.
func (cfg *config) wants(c *conn) bool {
	by := c.chosenBy
	if by == nil {
		by = &filter.Conn{Meta: &c.meta}
	}
	return cfg.find(by) != none
}
