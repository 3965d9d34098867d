package rbac

import (
	"errors"
	"time"

	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/stats"
)

// networkName is the name of the filter of connections, and of its dynamic metadata.
const networkName = "envoy.filters.network.rbac"

// Network describes the filter of connections.
var Network = filter.NetworkSpec[*ConnConfig]{
	Name:  networkName,
	Type:  "envoy.extensions.filters.network.rbac.v3.RBAC",
	Parse: parseNetwork,
	New:   newConnFactory,
}

// ConnConfig is the parsed configuration of the filter of connections.
type ConnConfig struct {
	Enforced, Shadow         *engine
	StatPrefix, ShadowPrefix string
	Delay                    time.Duration // how long who is denied is held
	Continuous               bool          // each piece of data is decided on, not the first alone
	// Late tells that policies look at what filters find out when bytes arrive. Otherwise
	// there is nothing to wait for: the connection is decided on when it opens, and the
	// bytes of those that are let through are nobody's business.
	Late bool
	keys keys
}

func newConnFactory(c *ConnConfig, env filter.Env) (func() filter.Network, error) {
	l := &listening{c: c}
	var release func()
	l.enforced, release = stats.SharedAt[enforcedCounts](env.Stats, connPath(c.StatPrefix, "")...)
	env.OnRetire(release)
	l.shadow, release = stats.SharedAt[shadowCounts](env.Stats, connPath(c.StatPrefix, c.ShadowPrefix)...)
	env.OnRetire(release)
	if c.Late || c.Continuous {
		return filter.AtBytes(l.decide, c.Continuous), nil
	}
	return filter.AtOpen(l.decide), nil
}

// connPath is the path of STAT_PREFIX.rbac.SHADOW_PREFIX.
func connPath(prefix, shadow string) []stats.Label {
	return append([]stats.Label{{Name: "envoy_rbac_prefix", Value: prefix}}, stats.Path("rbac", shadow)...)
}

// listening is one filter in a filter chain.
type listening struct {
	c        *ConnConfig
	enforced *enforcedCounts
	shadow   *shadowCounts
}

var errDenied = errors.New("rbac: access denied")

// decide closes the connection, late if so configured, unless it is let through.
func (l *listening) decide(c *filter.Conn) error {
	var s subject
	s.ofConn(c)
	if e := l.c.Shadow; e != nil {
		allowed, by := e.decide(&s)
		l.shadow.count(allowed)
		if by != nil {
			c.Metadata.Set(networkName, l.c.keys.shadowPolicy, by.boxed)
		}
		if allowed {
			c.Metadata.Set(networkName, l.c.keys.shadowResult, "allowed")
		} else {
			c.Metadata.Set(networkName, l.c.keys.shadowResult, "denied")
		}
	}
	e := l.c.Enforced
	if e == nil {
		return nil
	}
	allowed, by := e.decide(&s)
	e.hint(&c.Metadata, by)
	l.enforced.count(allowed)
	if allowed {
		return nil
	}
	c.Meta.Termination = unmatchedDetail
	if by != nil {
		c.Meta.Termination = by.detail
	}
	if l.c.Delay > 0 {
		t := time.NewTimer(l.c.Delay)
		defer t.Stop()
		select {
		case <-t.C:
		case <-c.Engine.Context().Done():
		}
	}
	return errDenied
}
