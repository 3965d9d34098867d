package iptables

import (
	"net/netip"
	"slices"
)

// capturesOutbound says whether the plan for c redirects a connection of the
// program to dst, whoever opens it.
func (c Config) capturesOutbound(dst netip.AddrPort) bool {
	switch {
	case inPorts(c.ExcludeOutboundPorts, dst.Port()), inCIDRs(c.ExcludeOutboundCIDRs, dst.Addr()),
		c.Families == IPv4Only && dst.Addr().Is6(), c.Families == IPv6Only && dst.Addr().Is4():
		return false
	case c.OutboundCIDRs == nil, inPorts(c.OutboundPorts, dst.Port()):
		return true
	}
	return inCIDRs(c.OutboundCIDRs, dst.Addr())
}

// capturesInbound says whether a connection to port from src is redirected.
func (c Config) capturesInbound(port uint16, src netip.Addr) bool {
	if c.Inbound == None || port == c.TunnelPort || inPorts(c.ExcludeInboundPorts, port) || inCIDRs(c.ExcludeInboundCIDRs, src) {
		return false
	}
	return c.InboundPorts == nil || inPorts(c.InboundPorts, port)
}

// outboundProbe picks a destination of the IP version that c captures, and
// prefers one that exists nowhere (RFC 5737, RFC 3849). ok is false when c
// captures nothing in this version.
func (c Config) outboundProbe(v6 bool) (dst netip.AddrPort, ok bool) {
	addrs := []netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("198.51.100.1")}
	if v6 {
		addrs = []netip.Addr{netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("100::1")}
	}
	for _, n := range c.OutboundCIDRs {
		if n.Addr().Is6() == v6 {
			addrs = append(addrs, n.Masked().Addr().Next())
		}
	}
	for _, a := range addrs {
		for _, p := range probePorts(c.OutboundPorts) {
			if dst := netip.AddrPortFrom(a, p); c.capturesOutbound(dst) {
				return dst, true
			}
		}
	}
	return netip.AddrPort{}, false
}

// inboundProbe picks a captured port for connections from and to self.
func (c Config) inboundProbe(self netip.Addr) (port uint16, ok bool) {
	for _, p := range probePorts(c.InboundPorts) {
		if c.capturesInbound(p, self) {
			return p, true
		}
	}
	return 0, false
}

// probePorts lists ports to try: Istio's probe port, common ones, and the first
// of each configured range.
func probePorts(configured []PortRange) []uint16 {
	ports := []uint16{15002, 80, 443, 8080, 49151}
	for _, r := range configured {
		ports = append(ports, r.First, r.Last)
	}
	return ports
}

func inPorts(list []PortRange, port uint16) bool {
	return slices.ContainsFunc(list, func(r PortRange) bool { return r.First <= port && port <= r.Last })
}

func inCIDRs(list []netip.Prefix, a netip.Addr) bool {
	return slices.ContainsFunc(list, func(p netip.Prefix) bool { return p.Contains(a) })
}

func inIDs(list []IDRange, id uint32) bool {
	return slices.ContainsFunc(list, func(r IDRange) bool { return r.First <= id && id <= r.Last })
}
