package match

import "net/netip"

// CIDRs is a set of address ranges. IPv4 in IPv6 is IPv4.
type CIDRs []netip.Prefix

// Match reports whether a is in one of the ranges.
func (c CIDRs) Match(a netip.Addr) bool {
	a = a.Unmap()
	for _, p := range c {
		if p.Contains(a) {
			return true
		}
	}
	return false
}
