package iptables

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// routingRule and routingRoute are the two objects of policy routing in one
// address family: "fwmark M lookup T" and "local default dev lo table T".
func (r Routing) rule(family int) *netlink.Rule {
	rule := netlink.NewRule()
	rule.Family, rule.Mark, rule.Table = family, r.Mark, int(r.Table)
	return rule
}

func (r Routing) route(family, loopback int) *netlink.Route {
	all := &net.IPNet{IP: net.IPv4zero.To4(), Mask: net.CIDRMask(0, 32)}
	if family == unix.AF_INET6 {
		all = &net.IPNet{IP: net.IPv6zero, Mask: net.CIDRMask(0, 128)}
	}
	return &netlink.Route{
		Family: family, LinkIndex: loopback, Dst: all, Table: int(r.Table),
		Type: unix.RTN_LOCAL, Scope: netlink.SCOPE_HOST,
	}
}

// routingNetlink lists the families to configure: those of the plan that this
// network namespace has.
func (rs *Ruleset) routingNetlink() []int {
	var out []int
	for _, f := range rs.families() {
		switch {
		case f == 4:
			out = append(out, unix.AF_INET)
		case hasIPv6():
			out = append(out, unix.AF_INET6)
		}
	}
	return out
}

// hasIPv6 reports whether the network namespace of this process speaks IPv6.
func hasIPv6() bool {
	v, err := os.ReadFile("/proc/thread-self/net/if_inet6")
	return err == nil && strings.TrimSpace(string(v)) != ""
}

func applyRouting(rs *Ruleset) error {
	if rs.Routing == nil {
		return nil
	}
	lo, err := loopback()
	if err != nil {
		return err
	}
	if err := netlink.LinkSetUp(lo); err != nil {
		return fmt.Errorf("iptables: policy routing: set lo up: %w", err)
	}
	for _, family := range rs.routingNetlink() {
		if err := netlink.RouteReplace(rs.Routing.route(family, lo.Attrs().Index)); err != nil {
			return fmt.Errorf("iptables: add local default route to table %d: %w", rs.Routing.Table, err)
		}
		have, err := rs.Routing.rules(family)
		if err != nil {
			return err
		}
		if len(have) > 0 {
			continue
		}
		if err := netlink.RuleAdd(rs.Routing.rule(family)); err != nil {
			return fmt.Errorf("iptables: add rule fwmark %d lookup %d: %w", rs.Routing.Mark, rs.Routing.Table, err)
		}
	}
	return nil
}

// rules lists the kernel's rules for our mark and table.
func (r Routing) rules(family int) ([]netlink.Rule, error) {
	have, err := netlink.RuleListFiltered(family, r.rule(family), netlink.RT_FILTER_MARK|netlink.RT_FILTER_TABLE)
	if err != nil {
		return nil, fmt.Errorf("iptables: list routing rules: %w", err)
	}
	return have, nil
}

func (r Routing) routes(family int) ([]netlink.Route, error) {
	have, err := netlink.RouteListFiltered(family, &netlink.Route{Table: int(r.Table), Type: unix.RTN_LOCAL},
		netlink.RT_FILTER_TABLE|netlink.RT_FILTER_TYPE)
	if err != nil {
		return nil, fmt.Errorf("iptables: list routes of table %d: %w", r.Table, err)
	}
	return have, nil
}

func verifyRouting(rs *Ruleset) ([]string, error) {
	if rs.Routing == nil {
		return nil, nil
	}
	var diff []string
	for _, family := range rs.routingNetlink() {
		v := map[int]string{unix.AF_INET: "IPv4", unix.AF_INET6: "IPv6"}[family]
		rules, err := rs.Routing.rules(family)
		if err != nil {
			return nil, err
		}
		if len(rules) == 0 {
			diff = append(diff, fmt.Sprintf("routing: %s rule missing: fwmark %d lookup %d", v, rs.Routing.Mark, rs.Routing.Table))
		}
		routes, err := rs.Routing.routes(family)
		if err != nil {
			return nil, err
		}
		if len(routes) == 0 {
			diff = append(diff, fmt.Sprintf("routing: %s route missing: local default dev lo table %d", v, rs.Routing.Table))
		}
	}
	return diff, nil
}

// undoRouting removes the rule and the local routes of r in both families,
// whatever is left of them.
func undoRouting(r Routing) error {
	var errs []error
	for _, family := range []int{unix.AF_INET, unix.AF_INET6} {
		rules, err := r.rules(family)
		if err != nil {
			continue // the family does not exist here
		}
		for range rules {
			errs = append(errs, netlink.RuleDel(r.rule(family)))
		}
		routes, _ := r.routes(family)
		for i := range routes {
			errs = append(errs, netlink.RouteDel(&routes[i]))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("iptables: undo policy routing: %w", err)
	}
	return nil
}
