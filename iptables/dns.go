package iptables

import "net/netip"

// Where queries of a program and of its sidecar to one server come from the
// same port of the same address, connection tracking takes them for one flow,
// and the answer that the sidecar waits for is translated for the program.
// UDP has nothing else to tell them apart, so they are tracked in zones.
const (
	zoneDirect   = 1 // what goes to a server and comes from it
	zoneCaptured = 2 // what the sidecar answers
)

// dnsPort is that of servers.
var dnsPort = PortRange{53, 53}

func (c Config) validateDNS(v *problems) {
	if c.DNSPort == 0 {
		if len(c.DNSServers) > 0 {
			v.add("DNS servers: without a DNS port no query is captured")
		}
		return
	}
	switch c.DNSPort {
	case c.OutboundPort, c.InboundPort, c.TunnelPort:
		v.add("DNS port: %d is also a port of captured connections", c.DNSPort)
	case dnsPort.First:
		v.add("DNS port: %d is that of servers: the sidecar would be asked by nobody", c.DNSPort)
	}
	if c.DNSServers != nil && len(c.DNSServers) == 0 {
		v.add("DNS servers: an empty list captures nothing; leave it out to capture queries to any server")
	}
	v.limit("DNS servers", len(c.DNSServers))
	for _, a := range c.DNSServers {
		if !a.IsValid() || a.Zone() != "" || a.Is4In6() {
			v.add("DNS servers: %v: expected an IPv4 or IPv6 address without zone", a)
		}
	}
}

// dnsCaptured lists the destinations whose queries are captured; one zero
// prefix stands for all.
func (p planner) dnsCaptured() []netip.Prefix {
	if p.c.DNSServers == nil {
		return []netip.Prefix{{}}
	}
	var out []netip.Prefix
	for _, a := range p.c.DNSServers {
		if a.Is4() && p.c.Families == IPv6Only || a.Is6() && p.c.Families == IPv4Only {
			continue
		}
		out = append(out, netip.PrefixFrom(a, a.BitLen()))
	}
	return out
}

// dnsDirect are rules for the queries that are not captured, because of who asks.
func (p planner) dnsDirect(action Action) []Rule {
	var rules []Rule
	for _, m := range p.sidecar() {
		rules = append(rules, Rule{m, action, "the sidecar asks a server itself"})
	}
	if len(p.c.OutboundGIDs) > 0 {
		rules = append(rules, Rule{Match{NotGIDs: p.c.OutboundGIDs}, action, "only the listed groups are captured"})
	}
	for _, r := range p.c.ExcludeUIDs {
		rules = append(rules, Rule{Match{UID: &r}, action, "user excluded from outbound capture"})
	}
	for _, r := range p.c.ExcludeGIDs {
		rules = append(rules, Rule{Match{GID: &r}, action, "group excluded from outbound capture"})
	}
	return rules
}

// natDNS sends queries to the sidecar.
func (p planner) natDNS() Chain {
	rules := p.dnsDirect(Action{Verb: Return})
	for _, n := range p.dnsCaptured() {
		to := Action{Verb: ToPort, Port: p.c.DNSPort}
		rules = append(rules,
			Rule{Match{UDP: true, Ports: dnsPort, Dst: n}, to, "DNS query: to the sidecar"},
			Rule{Match{TCP: true, Ports: dnsPort, Dst: n}, to, "DNS over TCP: to the sidecar"})
	}
	return Chain{Name: "dns", Table: "nat", Rules: rules}
}

// rawDNS keeps the flows of the program and of the sidecar apart.
func (p planner) rawDNS() []Chain {
	direct, captured := Action{Verb: Goto, Chain: "dns_direct"}, Action{Verb: Goto, Chain: "dns_captured"}
	zones := p.dnsDirect(direct)
	for _, n := range p.dnsCaptured() {
		zones = append(zones, Rule{Match{Dst: n}, captured, "the sidecar will answer"})
	}
	zones = append(zones, Rule{Match{}, direct, "a server will answer"})
	out := p.guard()
	for _, n := range p.c.ExcludeInterfaces {
		out = append(out, Rule{Match{Out: n}, Action{Verb: Return}, "interface excluded from capture"})
	}
	out = append(out,
		Rule{Match{UDP: true, SrcPort: p.c.DNSPort}, captured, "the sidecar answers the program"},
		Rule{Match{UDP: true, Ports: dnsPort}, Action{Verb: Goto, Chain: "dns_zones"}, "DNS queries"})
	in := p.guard()
	for _, n := range p.c.ExcludeInterfaces {
		in = append(in, Rule{Match{In: n}, Action{Verb: Return}, "interface excluded from capture"})
	}
	in = append(in, Rule{Match{UDP: true, SrcPort: dnsPort.First}, direct, "a server answers"})
	return []Chain{
		{Name: "dns_direct", Table: "raw", Rules: []Rule{{
			Match{}, Action{Verb: SetZone, Zone: zoneDirect}, "between this pod and a DNS server",
		}}},
		{Name: "dns_captured", Table: "raw", Rules: []Rule{{
			Match{}, Action{Verb: SetZone, Zone: zoneCaptured}, "between the program and the sidecar",
		}}},
		{Name: "dns_zones", Table: "raw", Rules: zones},
		{Name: "raw_prerouting", Table: "raw", Hook: "prerouting", Rules: in},
		{Name: "raw_output", Table: "raw", Hook: "output", Rules: out},
	}
}
