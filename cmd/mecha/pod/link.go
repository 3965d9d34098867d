package pod

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"strconv"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

const (
	bridgeName = "mecha0"
	podDevice  = "eth0"
	uplinkPort = 15998
	dnsPort    = 53
)

// place is a pod's place in the network of its node.
type place struct {
	Net    network
	V4, V6 netip.Addr
	NoV6   bool // the kernel has no IPv6
	// NoV6Default: no IPv6 default route; see nodeSetup.NoV6Uplink.
	NoV6Default bool
}

func setUp(name string) error {
	l, err := netlink.LinkByName(name)
	if err != nil {
		return fmt.Errorf("find %s: %w", name, err)
	}
	if err := netlink.LinkSetUp(l); err != nil {
		return fmt.Errorf("set %s up: %w", name, err)
	}
	return nil
}

// addAddr gives a device an address that is usable at once: there is nobody to
// be in conflict with, so duplicate address detection is skipped.
func addAddr(l netlink.Link, a netip.Addr, bits int) error {
	addr := &netlink.Addr{IPNet: &net.IPNet{IP: a.AsSlice(), Mask: net.CIDRMask(bits, a.BitLen())}}
	if a.Is6() {
		addr.Flags = unix.IFA_F_NODAD
	}
	if err := netlink.AddrAdd(l, addr); err != nil {
		return fmt.Errorf("add %v to %s: %w", a, l.Attrs().Name, err)
	}
	return nil
}

// addDefault routes everything else over l, by way of gw if it is valid.
func addDefault(l netlink.Link, gw netip.Addr, v6 bool) error {
	r := &netlink.Route{LinkIndex: l.Attrs().Index, Family: unix.AF_INET, Dst: &net.IPNet{IP: net.IPv4zero.To4(), Mask: net.CIDRMask(0, 32)}}
	if v6 {
		r.Family, r.Dst = unix.AF_INET6, &net.IPNet{IP: net.IPv6zero, Mask: net.CIDRMask(0, 128)}
	}
	if gw.IsValid() {
		r.Gw = gw.AsSlice()
	} else if !v6 {
		r.Scope = netlink.SCOPE_LINK
	}
	if err := netlink.RouteAdd(r); err != nil {
		return fmt.Errorf("add default route: %w", err)
	}
	return nil
}

// makeBridge builds the node's bridge, with the node's own addresses and those
// that stand for the host. noV6 tells that the kernel has no IPv6.
func makeBridge(n network) (noV6 bool, err error) {
	attrs := netlink.NewLinkAttrs()
	attrs.Name = bridgeName
	// Without an address of its own a bridge takes the lowest of its ports', and
	// another one whenever a pod comes or goes: neighbours would lose it.
	attrs.HardwareAddr = net.HardwareAddr{0x02, 'm', 'e', 'c', 'h', 'a'}
	if err := netlink.LinkAdd(&netlink.Bridge{LinkAttrs: attrs}); err != nil {
		return false, fmt.Errorf("add bridge: %w", err)
	}
	l, err := netlink.LinkByName(bridgeName)
	if err != nil {
		return false, fmt.Errorf("find bridge: %w", err)
	}
	gw4, gw6 := n.gateway()
	host4, host6 := n.host()
	for _, a := range []netip.Addr{gw4, host4} {
		if err := addAddr(l, a, n.V4.Bits()); err != nil {
			return false, err
		}
	}
	for _, a := range []netip.Addr{gw6, host6} {
		if err := addAddr(l, a, n.V6.Bits()); err != nil {
			noV6 = true
		}
	}
	if err := netlink.LinkSetUp(l); err != nil {
		return noV6, fmt.Errorf("set bridge up: %w", err)
	}
	if err := addDefault(l, netip.Addr{}, false); err != nil {
		return noV6, err
	}
	if !noV6 {
		err = addDefault(l, netip.Addr{}, true)
	}
	return noV6, err
}

// plugIn creates the cable between the bridge and a process's network namespace.
func plugIn(number, pid int) error {
	bridge, err := netlink.LinkByName(bridgeName)
	if err != nil {
		return fmt.Errorf("find bridge: %w", err)
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name = "pod" + strconv.Itoa(number)
	attrs.MasterIndex = bridge.Attrs().Index
	cable := &netlink.Veth{LinkAttrs: attrs, PeerName: podDevice, PeerNamespace: netlink.NsPid(pid)}
	if err := netlink.LinkAdd(cable); err != nil {
		return fmt.Errorf("add veth: %w", err)
	}
	return setUp(attrs.Name)
}

// settle configures the pod's side of the cable. It runs inside the pod.
func (p place) settle() error {
	if err := setUp("lo"); err != nil {
		return err
	}
	l, err := netlink.LinkByName(podDevice)
	if err != nil {
		return fmt.Errorf("find %s: %w", podDevice, err)
	}
	if err := addAddr(l, p.V4, p.Net.V4.Bits()); err != nil {
		return err
	}
	if !p.NoV6 {
		if err := addAddr(l, p.V6, p.Net.V6.Bits()); err != nil {
			return err
		}
	}
	if err := netlink.LinkSetUp(l); err != nil {
		return fmt.Errorf("set %s up: %w", podDevice, err)
	}
	gw4, gw6 := p.Net.gateway()
	if err := addDefault(l, gw4, false); err != nil {
		return err
	}
	if !p.NoV6 && !p.NoV6Default {
		if err := addDefault(l, gw6, true); err != nil {
			return err
		}
	}
	// Any program may serve port 80 in its pod. Where /proc/sys cannot be
	// written the program needs root for that, as everywhere.
	_ = os.WriteFile("/proc/sys/net/ipv4/ip_unprivileged_port_start", []byte("0"), 0)
	return nil
}
