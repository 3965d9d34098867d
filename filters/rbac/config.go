package rbac

import (
	"errors"
	"slices"
	"strings"

	xdsmatcherv3 "github.com/cncf/xds/go/xds/type/matcher/v3"
	rbacv3 "github.com/envoyproxy/go-control-plane/envoy/config/rbac/v3"
	httpv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/rbac/v3"
	networkv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/rbac/v3"

	"github.com/mecha-mesh/mecha/proxy/cel"
	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/filter/fromproto"
)

// parse decodes envoy.extensions.filters.http.rbac.v3.RBAC.
func parse(raw []byte, p *filter.Parser) (*Config, error) {
	var pb httpv3.RBAC
	if err := fromproto.Unmarshal(raw, &pb); err != nil {
		return nil, err
	}
	return httpConfig(&pb, p)
}

// parseRoute decodes envoy.extensions.filters.http.rbac.v3.RBACPerRoute.
func parseRoute(raw []byte, p *filter.Parser) (*Config, error) {
	var pb httpv3.RBACPerRoute
	if err := fromproto.Unmarshal(raw, &pb); err != nil {
		return nil, err
	}
	if pb.Rbac == nil {
		return &Config{}, nil // nothing is enforced on this route
	}
	c, err := httpConfig(pb.Rbac, p)
	return c, filter.At("rbac", err)
}

func httpConfig(pb *httpv3.RBAC, p *filter.Parser) (c *Config, err error) {
	err = fromproto.Check(pb, p, fromproto.Fields{Used: []string{
		"rules", "rules_stat_prefix", "matcher", "shadow_rules", "shadow_matcher", "shadow_rules_stat_prefix", "track_per_rule_stats",
	}})
	if err != nil {
		return nil, err
	}
	c = &Config{
		EnforcedPrefix: pb.RulesStatPrefix, ShadowPrefix: pb.ShadowRulesStatPrefix, Track: pb.TrackPerRuleStats,
		keys: prefixed(pb.RulesStatPrefix, pb.ShadowRulesStatPrefix),
	}
	b := &builder{p: p, http: true}
	if c.Enforced, err = b.engine("", pb.Rules, pb.Matcher); err != nil {
		return nil, err
	}
	c.Shadow, err = b.engine("shadow_", pb.ShadowRules, pb.ShadowMatcher)
	return c, err
}

// parseNetwork decodes envoy.extensions.filters.network.rbac.v3.RBAC.
func parseNetwork(raw []byte, p *filter.Parser) (c *ConnConfig, err error) {
	var pb networkv3.RBAC
	if err := fromproto.Unmarshal(raw, &pb); err != nil {
		return nil, err
	}
	err = fromproto.Check(&pb, p, fromproto.Fields{Used: []string{
		"rules", "matcher", "shadow_rules", "shadow_matcher", "shadow_rules_stat_prefix", "stat_prefix", "enforcement_type", "delay_deny",
	}})
	if err != nil {
		return nil, err
	}
	c = &ConnConfig{
		StatPrefix: pb.StatPrefix, ShadowPrefix: pb.ShadowRulesStatPrefix, keys: prefixed("", pb.ShadowRulesStatPrefix),
		Continuous: pb.EnforcementType == networkv3.RBAC_CONTINUOUS,
	}
	if c.Delay, err = fromproto.Duration(pb.DelayDeny, 0); err != nil {
		return nil, filter.At("delay_deny", err)
	}
	b := &builder{p: p}
	if c.Enforced, err = b.engine("", pb.Rules, pb.Matcher); err != nil {
		return nil, err
	}
	if c.Shadow, err = b.engine("shadow_", pb.ShadowRules, pb.ShadowMatcher); err != nil {
		return nil, err
	}
	c.Late = b.late
	return c, nil
}

// builder compiles policies.
type builder struct {
	p    *filter.Parser
	http bool
	// late tells that policies look at what other filters find out as bytes arrive.
	late bool
}

// engine compiles rules, or the matcher, which comes first; nil without either.
func (b *builder) engine(prefix string, rules *rbacv3.RBAC, m *xdsmatcherv3.Matcher) (*engine, error) {
	switch {
	case m != nil:
		if rules != nil {
			b.p.Warnings = append(b.p.Warnings, "RBAC."+prefix+"rules has no effect beside "+prefix+"matcher")
		}
		e, err := b.tree(m)
		return e, filter.At(prefix+"matcher", err)
	case rules != nil:
		e, err := b.rules(rules)
		return e, filter.At(prefix+"rules", err)
	}
	return nil, nil
}

func (b *builder) rules(pb *rbacv3.RBAC) (*engine, error) {
	used := []string{"action", "policies"}
	if pb.AuditLoggingOptions.GetAuditCondition() == rbacv3.RBAC_AuditLoggingOptions_NONE {
		used = append(used, "audit_logging_options") // which log nothing then
	}
	if err := fromproto.Check(pb, b.p, fromproto.Fields{Used: used}); err != nil {
		return nil, err
	}
	a, err := actionOf(pb.Action)
	if err != nil {
		return nil, filter.At("action", err)
	}
	e := &engine{action: a, logs: a == log}
	for name, pol := range pb.Policies {
		one, err := b.policy(pol)
		if err != nil {
			return nil, filter.At("policies["+quoted(name)+"]", err)
		}
		one.policyName = named(name)
		e.policies = append(e.policies, one)
	}
	slices.SortFunc(e.policies, func(x, y policy) int { return strings.Compare(x.name, y.name) })
	return e, nil
}

func actionOf(pb rbacv3.RBAC_Action) (action, error) {
	switch pb {
	case rbacv3.RBAC_ALLOW:
		return allow, nil
	case rbacv3.RBAC_DENY:
		return deny, nil
	case rbacv3.RBAC_LOG:
		return log, nil
	}
	return deny, errors.New("is none of ALLOW, DENY, LOG")
}

func (b *builder) policy(pb *rbacv3.Policy) (out policy, err error) {
	err = fromproto.Check(pb, b.p, fromproto.Fields{Used: []string{"permissions", "principals", "condition", "checked_condition", "cel_config"}})
	if err == nil && pb.CelConfig != nil {
		// Strings can be made and put together here in any case: what an evaluation costs is bounded.
		err = fromproto.Check(pb.CelConfig, b.p, fromproto.Fields{Used: []string{"enable_string_conversion", "enable_string_concat"}})
		err = filter.At("cel_config", err)
	}
	if err != nil {
		return out, err
	}
	if out.condition, err = b.condition(pb); err != nil {
		return out, err
	}
	var any anyOf
	for i, p := range pb.Permissions {
		m, err := b.permission(p)
		if err != nil {
			return out, filter.AtIndex("permissions", i, err)
		}
		any = append(any, m)
	}
	out.permissions = simplest(any)
	any = nil
	for i, p := range pb.Principals {
		m, err := b.principal(p)
		if err != nil {
			return out, filter.AtIndex("principals", i, err)
		}
		any = append(any, m)
	}
	out.principals = simplest(any)
	return out, nil
}

// condition compiles what else has to be true; nil is nothing.
func (b *builder) condition(pb *rbacv3.Policy) (p *cel.Program, err error) {
	switch {
	case pb.Condition != nil && pb.CheckedCondition != nil:
		return nil, filter.At("checked_condition", errors.New("cannot be set together with condition"))
	case pb.Condition != nil:
		p, err = cel.Parsed(pb.Condition)
		err = filter.At("condition", err)
	case pb.CheckedCondition != nil:
		p, err = cel.Checked(pb.CheckedCondition)
		err = filter.At("checked_condition", err)
	}
	if p != nil {
		b.late = true
	}
	return p, err
}

// simplest is one matcher for what any of the list matches: a single one itself, and
// ranges of the same address one list of ranges.
func simplest(any anyOf) matcher {
	var out anyOf
	for _, m := range any {
		a, ok := m.(*address)
		if ok && len(out) > 0 {
			if last, ok := out[len(out)-1].(*address); ok && last.of == a.of {
				out[len(out)-1] = &address{a.of, slices.Concat(last.in, a.in)}
				continue
			}
		}
		out = append(out, m)
	}
	if len(out) == 1 {
		return out[0]
	}
	return out
}
