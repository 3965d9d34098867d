package iptables

import (
	"fmt"
	"net/netip"
)

// Plan computes the rules for c. It is pure: same Config, same Ruleset.
//
// The order inside the chains is Istio's; where Istio emits a triple of rules
// for each sidecar id, the three kinds are emitted one after another instead,
// so that with several ids a socket of the second is not mistaken for the
// program's by the rules of the first.
func Plan(c Config) (*Ruleset, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	p := planner{c: c}
	rs := &Ruleset{Families: c.Families}
	if c.Inbound == TProxy {
		rs.Routing = &Routing{Mark: c.TProxyMark, Table: c.RouteTable}
	}
	if c.DNSPort != 0 {
		rs.Chains = append(rs.Chains, p.rawDNS()...)
	}
	if c.Inbound == TProxy || c.DropInvalid {
		rs.Chains = append(rs.Chains, p.mangle()...)
	}
	rs.Chains = append(rs.Chains,
		Chain{Name: "out_redirect", Table: "nat", Rules: []Rule{{
			Match{TCP: true}, Action{Verb: ToPort, Port: c.OutboundPort}, "outbound: to the sidecar",
		}}})
	if c.Inbound != None {
		rs.Chains = append(rs.Chains, Chain{Name: "in_redirect", Table: "nat", Rules: []Rule{{
			Match{TCP: true}, Action{Verb: ToPort, Port: c.InboundPort}, "inbound: to the sidecar",
		}}})
	}
	if c.Inbound == Redirect {
		rs.Chains = append(rs.Chains, Chain{
			Name: "inbound", Table: "nat", Rules: p.inboundRules(Action{Verb: Goto, Chain: "in_redirect"}),
		})
	}
	if c.DNSPort != 0 {
		rs.Chains = append(rs.Chains, p.natDNS())
	}
	rs.Chains = append(rs.Chains, p.natPrerouting(), Chain{Name: "outbound", Table: "nat", Rules: p.outputRules()}, p.natOutput())
	n := 0
	for _, ch := range rs.Chains {
		n += len(ch.Rules)
		for _, r := range ch.Rules {
			if len(r.Why) > maxComment {
				return nil, fmt.Errorf("iptables: comment of a rule in %s is %d bytes, the kernel keeps %d: %q", ch.Name, len(r.Why), maxComment, r.Why)
			}
		}
	}
	if n > maxRules {
		return nil, fmt.Errorf("iptables: the plan has %d rules, at most %d fit into one transaction; use ranges or wider networks", n, maxRules)
	}
	return rs, nil
}

type planner struct{ c Config }

// loopback is the address a program uses to reach itself on purpose.
func (p planner) loopback() []netip.Prefix { return p.own("127.0.0.1/32", "::1/128") }

// passthroughSource is the address the sidecar binds when it calls the program
// directly: what comes from it on lo has been through the sidecar already.
func (p planner) passthroughSource() []netip.Prefix { return p.own("127.0.0.6/32", "::6/128") }

func (p planner) own(v4, v6 string) []netip.Prefix {
	var out []netip.Prefix
	if p.c.Families != IPv6Only {
		out = append(out, netip.MustParsePrefix(v4))
	}
	if p.c.Families != IPv4Only {
		out = append(out, netip.MustParsePrefix(v6))
	}
	return out
}

// guard keeps the other IP version out of a single-family plan.
func (p planner) guard() []Rule {
	switch p.c.Families {
	case IPv4Only:
		return []Rule{{Match{Family: 6}, Action{Verb: Return}, "capture is limited to IPv4"}}
	case IPv6Only:
		return []Rule{{Match{Family: 4}, Action{Verb: Return}, "capture is limited to IPv6"}}
	}
	return nil
}

func (p planner) natPrerouting() Chain {
	rules := p.guard()
	for _, n := range p.c.ExcludeInterfaces {
		rules = append(rules, Rule{Match{In: n}, Action{Verb: Return}, "interface excluded from capture"})
	}
	for _, n := range p.c.GuestInterfaces {
		rules = append(rules, p.excludedOutbound(Match{In: n})...)
		rules = append(rules, p.includedOutbound(Match{In: n}, "outbound connection of a guest")...)
		rules = append(rules, Rule{Match{In: n}, Action{Verb: Return}, "traffic of a guest is never inbound"})
	}
	if p.c.Inbound == Redirect {
		rules = append(rules, Rule{Match{TCP: true}, Action{Verb: Jump, Chain: "inbound"}, "connections opened by others"})
	}
	return Chain{Name: "nat_prerouting", Table: "nat", Hook: "prerouting", Rules: rules}
}

func (p planner) natOutput() Chain {
	rules := p.guard()
	for _, n := range p.c.ExcludeInterfaces {
		rules = append(rules, Rule{Match{Out: n}, Action{Verb: Return}, "interface excluded from capture"})
	}
	if p.c.DNSPort != 0 {
		jump := Action{Verb: Jump, Chain: "dns"}
		rules = append(rules, Rule{Match{UDP: true, Ports: dnsPort}, jump, "DNS queries"}, Rule{Match{TCP: true, Ports: dnsPort}, jump, "DNS over TCP"})
	}
	rules = append(rules, Rule{Match{TCP: true}, Action{Verb: Jump, Chain: "outbound"}, "connections opened in this pod"})
	return Chain{Name: "nat_output", Table: "nat", Hook: "output", Rules: rules}
}

// inboundRules decides which inbound connections get action.
func (p planner) inboundRules(action Action) []Rule {
	var rules []Rule
	if p.c.TunnelPort != 0 {
		rules = append(rules, Rule{
			Match{TCP: true, Ports: PortRange{p.c.TunnelPort, p.c.TunnelPort}}, Action{Verb: Return},
			"already inside a mesh tunnel: the sidecar listens on this port itself",
		})
	}
	for _, n := range p.c.ExcludeInboundCIDRs {
		rules = append(rules, Rule{Match{TCP: true, Src: n}, Action{Verb: Return}, "source excluded from inbound capture"})
	}
	for _, r := range p.c.ExcludeInboundPorts {
		rules = append(rules, Rule{Match{TCP: true, Ports: r}, Action{Verb: Return}, "port excluded from inbound capture"})
	}
	if p.c.InboundPorts == nil {
		return append(rules, Rule{Match{TCP: true}, action, "every other inbound port is captured"})
	}
	for _, r := range p.c.InboundPorts {
		rules = append(rules, Rule{Match{TCP: true, Ports: r}, action, "inbound port captured"})
	}
	return rules
}

// sidecar returns one match for each way to recognise the sidecar's own sockets.
func (p planner) sidecar() []Match {
	var out []Match
	for _, u := range p.c.ProxyUIDs {
		out = append(out, Match{UID: &IDRange{u, u}})
	}
	for _, g := range p.c.ProxyGIDs {
		out = append(out, Match{GID: &IDRange{g, g}})
	}
	for _, m := range p.c.ProxyMarks {
		out = append(out, Match{Mark: m})
	}
	return out
}

func (p planner) outputRules() []Rule {
	ret := Action{Verb: Return}
	var rules []Rule
	for _, r := range p.c.ExcludeOutboundPorts {
		rules = append(rules, Rule{Match{TCP: true, Ports: r}, ret, "port excluded from outbound capture"})
	}
	for _, s := range p.passthroughSource() {
		rules = append(rules, Rule{Match{Out: "lo", Src: s}, ret, "the sidecar calls the program: inbound connection, already handled"})
	}
	if p.c.DNSPort != 0 {
		// A server may be on lo: 127.0.0.53 and the like.
		for _, m := range p.sidecar() {
			m.TCP, m.Ports = true, dnsPort
			rules = append(rules, Rule{m, ret, "the sidecar asks a DNS server itself"})
		}
	}
	if p.c.Inbound == Redirect {
		rules = append(rules, p.hairpin()...)
	}
	for _, m := range p.sidecar() {
		rules = append(rules, Rule{m, ret, "a connection of the sidecar itself goes out directly"})
	}
	rules = append(rules, Rule{Match{Out: "lo"}, ret, "the program talks to itself inside the pod"})
	if len(p.c.OutboundGIDs) > 0 {
		rules = append(rules, Rule{Match{NotGIDs: p.c.OutboundGIDs}, ret, "only the listed groups are captured"})
	}
	for _, r := range p.c.ExcludeUIDs {
		rules = append(rules, Rule{Match{UID: &r}, ret, "user excluded from outbound capture"})
	}
	for _, r := range p.c.ExcludeGIDs {
		rules = append(rules, Rule{Match{GID: &r}, ret, "group excluded from outbound capture"})
	}
	for _, n := range p.c.ExcludeOutboundCIDRs {
		rules = append(rules, Rule{Match{Dst: n}, ret, "destination excluded from outbound capture"})
	}
	return append(rules, p.includedOutbound(Match{}, "outbound connection")...)
}

// hairpin: the program calls a service whose endpoint is its own pod. The
// sidecar then connects to the pod's own address, and that is an inbound
// connection like any other; it only never leaves lo.
func (p planner) hairpin() []Rule {
	var rules []Rule
	for _, id := range p.sidecar() {
		for _, lo := range p.loopback() {
			m := id
			m.TCP, m.Out, m.Dst, m.NotDst = true, "lo", lo, true
			if p.c.TunnelPort != 0 {
				m.Ports, m.NotPorts = PortRange{p.c.TunnelPort, p.c.TunnelPort}, true
			}
			rules = append(rules, Rule{
				m, Action{Verb: Goto, Chain: "in_redirect"},
				"the sidecar calls the address of its own pod: inbound as for anyone else",
			})
		}
	}
	return rules
}

func (p planner) excludedOutbound(base Match) []Rule {
	var rules []Rule
	for _, r := range p.c.ExcludeOutboundPorts {
		m := base
		m.TCP, m.Ports = true, r
		rules = append(rules, Rule{m, Action{Verb: Return}, "port excluded from outbound capture"})
	}
	for _, n := range p.c.ExcludeOutboundCIDRs {
		m := base
		m.Dst = n
		rules = append(rules, Rule{m, Action{Verb: Return}, "destination excluded from outbound capture"})
	}
	return rules
}

func (p planner) includedOutbound(base Match, what string) []Rule {
	to := Action{Verb: Goto, Chain: "out_redirect"}
	base.TCP = true
	var rules []Rule
	for _, r := range p.c.OutboundPorts {
		m := base
		m.Ports = r
		rules = append(rules, Rule{m, to, what + " to a captured port"})
	}
	if p.c.OutboundCIDRs == nil {
		return append(rules, Rule{base, to, what + ": every other destination is captured"})
	}
	for _, n := range p.c.OutboundCIDRs {
		m := base
		m.Dst = n
		rules = append(rules, Rule{m, to, what + " to a captured network"})
	}
	return rules
}

// mangle holds what must happen before NAT and routing: dropping what belongs
// to no connection, and TPROXY.
func (p planner) mangle() []Chain {
	var pre []Rule
	if p.c.DropInvalid {
		pre = append(pre, Rule{
			Match{TCP: true, ConnState: "invalid"}, Action{Verb: Drop},
			"belongs to no known connection: would make the kernel reset a healthy one",
		})
	}
	if p.c.Inbound != TProxy {
		return []Chain{{Name: "mangle_prerouting", Table: "mangle", Hook: "prerouting", Rules: append(p.guard(), pre...)}}
	}
	for _, n := range append(append([]string(nil), p.c.ExcludeInterfaces...), p.c.GuestInterfaces...) {
		pre = append(pre, Rule{Match{In: n}, Action{Verb: Return}, "interface without inbound capture"})
	}
	pre = append(pre, Rule{Match{TCP: true}, Action{Verb: Jump, Chain: "tproxy_inbound"}, "connections opened by others"})
	return []Chain{
		{Name: "in_tproxy", Table: "mangle", Rules: p.tproxy()},
		{Name: "tproxy_inbound", Table: "mangle", Rules: p.tproxyInbound()},
		{Name: "mangle_prerouting", Table: "mangle", Hook: "prerouting", Rules: append(p.guard(), pre...)},
		{Name: "mangle_output", Table: "mangle", Hook: "output", Rules: append(p.guard(), p.mangleOutput()...)},
	}
}

func (p planner) tproxy() []Rule {
	established := Match{TCP: true, ConnState: "established"}
	return []Rule{
		// iptables drops what tproxy finds no socket for, so packets of living
		// connections, among them answers to outbound ones, must not get there.
		{established, Action{Verb: SetMark, Mark: p.c.TProxyMark}, "part of a living connection: deliver it to its socket in this pod"},
		{established, Action{Verb: Return}, "part of a living connection: done"},
		{
			Match{TCP: true}, Action{Verb: ToSocket, Port: p.c.InboundPort, Mark: p.c.TProxyMark},
			"inbound: to the sidecar, addresses unchanged",
		},
		{
			Match{TCP: true, ConnState: "new"}, Action{Verb: Drop},
			"the sidecar is not listening: a connection must not reach the program around it",
		},
	}
}

func (p planner) tproxyInbound() []Rule {
	ret := Action{Verb: Return}
	mark, own := p.c.TProxyMark, p.c.TProxyMark+1
	rules := []Rule{
		{
			Match{TCP: true, In: "lo", Mark: mark}, Action{Verb: KeepMark, Mark: mark},
			"the sidecar calls the program with the address of the client: remember it for the replies",
		},
		{Match{TCP: true, In: "lo", Mark: mark}, ret, "between the sidecar and the program: already handled"},
	}
	for _, s := range p.passthroughSource() {
		rules = append(rules, Rule{Match{TCP: true, In: "lo", Src: s}, ret, "the sidecar calls the program: already handled"})
	}
	rules = append(rules, Rule{Match{TCP: true, In: "lo", Mark: own, NotMark: true}, ret, "the program talks to itself inside the pod"})
	return append(rules, p.inboundRules(Action{Verb: Goto, Chain: "in_tproxy"})...)
}

func (p planner) mangleOutput() []Rule {
	mark, own := p.c.TProxyMark, p.c.TProxyMark+1
	rules := []Rule{{
		Match{TCP: true, Out: "lo", Mark: mark}, Action{Verb: Return},
		"the sidecar calls the program with the address of the client",
	}}
	for _, s := range p.passthroughSource() {
		rules = append(rules, Rule{Match{TCP: true, Out: "lo", Src: s}, Action{Verb: Return}, "the sidecar calls the program"})
	}
	for _, id := range p.sidecar() {
		for _, lo := range p.loopback() {
			m := id
			m.TCP, m.Out, m.Dst, m.NotDst = true, "lo", lo, true
			rules = append(rules, Rule{
				m, Action{Verb: SetMark, Mark: own},
				"the sidecar calls the address of its own pod: inbound as for anyone else",
			})
		}
	}
	return append(rules, Rule{
		Match{TCP: true, CTMark: mark}, Action{Verb: SetMark, Mark: mark},
		"the program answers a client whose address the sidecar used: route it back to the sidecar",
	})
}
