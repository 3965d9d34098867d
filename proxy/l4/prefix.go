package l4

import (
	"net/netip"
	"slices"
)

// everywhere is what an empty list of prefixes means.
var everywhere = [...]netip.Prefix{
	netip.PrefixFrom(netip.IPv4Unspecified(), 0),
	netip.PrefixFrom(netip.IPv6Unspecified(), 0),
}

// prefixes maps address ranges to values; the longest range that contains an address wins.
type prefixes[V any] struct{ v4, v6 []prefixSet[V] }

// prefixSet is all ranges of one length.
type prefixSet[V any] struct {
	bits int
	by   map[netip.Addr]*V
}

// at returns the values of the ranges, made where there are none.
func (p *prefixes[V]) at(ranges []netip.Prefix) []*V {
	if len(ranges) == 0 {
		ranges = everywhere[:]
	}
	out := make([]*V, 0, len(ranges))
	for _, r := range ranges {
		if a := r.Addr(); a.Is4In6() && r.Bits() >= 96 {
			r = netip.PrefixFrom(a.Unmap(), r.Bits()-96)
		}
		family := &p.v6
		if r.Addr().Is4() {
			family = &p.v4
		}
		v := at(family, r.Masked())
		if !slices.Contains(out, v) {
			out = append(out, v)
		}
	}
	return out
}

func at[V any](family *[]prefixSet[V], r netip.Prefix) *V {
	i, found := slices.BinarySearchFunc(*family, r.Bits(), func(s prefixSet[V], bits int) int { return bits - s.bits })
	if !found {
		*family = slices.Insert(*family, i, prefixSet[V]{r.Bits(), map[netip.Addr]*V{}})
	}
	by := (*family)[i].by
	v := by[r.Addr()]
	if v == nil {
		v = new(V)
		by[r.Addr()] = v
	}
	return v
}

// find returns the value of the longest range around a, or nil. An address that is
// none (a unix socket) is only in the range of everything.
func (p *prefixes[V]) find(a netip.Addr) *V {
	if !a.IsValid() {
		a = netip.IPv6Unspecified()
	}
	family := p.v6
	if a = a.Unmap().WithZone(""); a.Is4() {
		family = p.v4
	}
	for i := range family {
		r, err := a.Prefix(family[i].bits)
		if err != nil {
			continue
		}
		if v := family[i].by[r.Addr()]; v != nil {
			return v
		}
	}
	return nil
}
