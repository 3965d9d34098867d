package iptables

import (
	"errors"
	"fmt"
	"net"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// The sidecar calls the program from 127.0.0.6 or ::6. All of 127.0.0.0/8 is
// local on Linux; ::6 must be added to lo before a socket can be bound to it.

func passthroughAddr() *netlink.Addr {
	return &netlink.Addr{
		IPNet: &net.IPNet{IP: net.ParseIP("::6"), Mask: net.CIDRMask(128, 128)},
		Flags: unix.IFA_F_NODAD, Scope: int(netlink.SCOPE_HOST),
	}
}

// needsPassthrough reports whether rs captures IPv6 in a network namespace that has it.
func needsPassthrough(rs *Ruleset) bool { return rs.Families != IPv4Only && hasIPv6() }

func hasPassthrough(lo netlink.Link) (bool, error) {
	addrs, err := netlink.AddrList(lo, unix.AF_INET6)
	if err != nil {
		return false, fmt.Errorf("iptables: list addresses of lo: %w", err)
	}
	for _, a := range addrs {
		if a.IP.Equal(passthroughAddr().IP) {
			return true, nil
		}
	}
	return false, nil
}

func loopback() (netlink.Link, error) {
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return nil, fmt.Errorf("iptables: find lo: %w", err)
	}
	return lo, nil
}

func applyPassthrough(rs *Ruleset) error {
	if !needsPassthrough(rs) {
		return nil
	}
	lo, err := loopback()
	if err != nil {
		return err
	}
	if err := netlink.AddrAdd(lo, passthroughAddr()); err != nil && !errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("iptables: add ::6 to lo, for the sidecar to call the program from: %w", err)
	}
	return nil
}

func verifyPassthrough(rs *Ruleset) ([]string, error) {
	if !needsPassthrough(rs) {
		return nil, nil
	}
	lo, err := loopback()
	if err != nil {
		return nil, err
	}
	have, err := hasPassthrough(lo)
	if err != nil || have {
		return nil, err
	}
	return []string{"address: lo has no ::6, from which the sidecar calls the program"}, nil
}

func undoPassthrough() error {
	lo, err := loopback()
	if err != nil {
		return err
	}
	if have, err := hasPassthrough(lo); err != nil || !have {
		return nil // without IPv6 there is nothing to remove
	}
	if err := netlink.AddrDel(lo, passthroughAddr()); err != nil {
		return fmt.Errorf("iptables: remove ::6 from lo: %w", err)
	}
	return nil
}
