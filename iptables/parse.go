package iptables

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// ParsePorts reads a comma-separated list of TCP ports and ranges, "80,8000-8100"
// (Istio writes a range with ":"; both are read). An empty string gives nil.
func ParsePorts(s string) ([]PortRange, error) {
	return parseList(s, func(item string) (PortRange, error) {
		first, last, err := parseRange(item, 16)
		if err == nil && first == 0 {
			err = fmt.Errorf("port 0 does not exist")
		}
		return PortRange{uint16(first), uint16(last)}, err
	})
}

// ParseIDs reads a comma-separated list of numeric ids and ranges, "33,1000-1999".
func ParseIDs(s string) ([]IDRange, error) {
	return parseList(s, func(item string) (IDRange, error) {
		first, last, err := parseRange(item, 32)
		return IDRange{uint32(first), uint32(last)}, err
	})
}

// ParseCIDRs reads a comma-separated list of networks. A bare address means
// that one host; bits behind the prefix are cleared.
func ParseCIDRs(s string) ([]netip.Prefix, error) {
	return parseList(s, func(item string) (netip.Prefix, error) {
		if a, err := netip.ParseAddr(item); err == nil {
			if a.Zone() != "" {
				return netip.Prefix{}, fmt.Errorf("an address with a zone cannot be matched")
			}
			return netip.PrefixFrom(a, a.BitLen()), nil
		}
		p, err := netip.ParsePrefix(item)
		if err != nil {
			return p, fmt.Errorf("expected a network such as 10.0.0.0/8 or fd00::/8")
		}
		return p.Masked(), nil
	})
}

func parseList[T any](s string, one func(string) (T, error)) ([]T, error) {
	var out []T
	for item := range strings.SplitSeq(s, ",") {
		item = strings.TrimSpace(item)
		if item == "" {
			continue
		}
		v, err := one(item)
		if err != nil {
			return nil, fmt.Errorf("%q: %w", item, err)
		}
		out = append(out, v)
	}
	return out, nil
}

func parseRange(s string, bits int) (first, last uint64, err error) {
	lo, hi, isRange := strings.Cut(s, "-")
	if !isRange {
		lo, hi, isRange = strings.Cut(s, ":")
	}
	if first, err = strconv.ParseUint(lo, 10, bits); err != nil {
		return 0, 0, fmt.Errorf("expected a number from 0 to %d or a range", uint64(1)<<bits-1)
	}
	if !isRange {
		return first, first, nil
	}
	if last, err = strconv.ParseUint(hi, 10, bits); err != nil || last < first {
		return 0, 0, fmt.Errorf("expected a range such as %d-%d", first, first+10)
	}
	return first, last, nil
}

// String renders the range as nft writes it: "80" or "80-90".
func (r PortRange) String() string { return rangeText(uint64(r.First), uint64(r.Last), "-") }

// String renders the range as nft writes it: "33" or "33-40".
func (r IDRange) String() string { return rangeText(uint64(r.First), uint64(r.Last), "-") }

func rangeText(first, last uint64, sep string) string {
	if first == last {
		return strconv.FormatUint(first, 10)
	}
	return strconv.FormatUint(first, 10) + sep + strconv.FormatUint(last, 10)
}
