// Package iptables puts a pod's TCP traffic, and its DNS queries, into the hands of its sidecar and
// takes it out again.
//
// [Plan] turns a [Config] into a [Ruleset], a pure function that needs no
// kernel. [Apply] programs the rule set in the network namespace of the calling
// process: one nftables transaction over netlink, or iptables-restore where
// nftables cannot be reached. [Verify] compares the kernel with the plan,
// [Undo] removes every trace, [SelfTest] proves with real connections that the
// rules do what they say.
//
// What is not here: making network namespaces (cmd/mecha/pod) and answering the
// captured connections (proxy/l4).
package iptables

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// Defaults: Istio's numbers, so that a pod injected for Istio needs no change.
const (
	DefaultOutboundPort = 15001
	DefaultInboundPort  = 15006
	DefaultTunnelPort   = 15008
	DefaultDNSPort      = 15053
	DefaultProxyID      = 1337
	DefaultTProxyMark   = 1337
	DefaultRouteTable   = 133
	// DefaultProxyMark marks the sidecar's own sockets where user and group
	// cannot tell it from the program: a user namespace with one mapped id.
	DefaultProxyMark = 0x6d63
	// maxEntries bounds each list of a Config, and with it the size of the
	// transaction: rules are walked one after another for each new connection.
	maxEntries = 256
)

// Mode says how inbound connections reach the sidecar.
type Mode string

const (
	// Redirect rewrites the destination (NAT). The sidecar needs no privilege
	// and reads the real destination with SO_ORIGINAL_DST.
	Redirect Mode = "REDIRECT"
	// TProxy hands the connection over unchanged: destination is the accepted
	// socket's own address. The sidecar needs CAP_NET_ADMIN (IP_TRANSPARENT).
	TProxy Mode = "TPROXY"
	// None leaves inbound traffic alone.
	None Mode = "NONE"
)

// Families says which IP versions are captured.
type Families uint8

const (
	// DualStack captures IPv4 and IPv6. An address family the pod does not have
	// costs nothing, and one that appears later is captured already.
	DualStack Families = iota
	IPv4Only
	IPv6Only
)

// PortRange is an inclusive range of TCP ports; one port has First == Last.
type PortRange struct{ First, Last uint16 }

// IDRange is an inclusive range of numeric user or group ids.
type IDRange struct{ First, Last uint32 }

// Config says what to capture. The zero value is not useful; start from
// [DefaultConfig]. Names in brackets are the environment variables and flags of
// istio-iptables that mean the same.
type Config struct {
	// OutboundPort is where the sidecar accepts what the program opens [ENVOY_PORT, -p].
	OutboundPort uint16
	// InboundPort is where the sidecar accepts what others open [INBOUND_CAPTURE_PORT, -z].
	InboundPort uint16
	// TunnelPort carries traffic already inside a mesh tunnel and is never
	// captured; 0: there is none [INBOUND_TUNNEL_PORT, -e].
	TunnelPort uint16

	// DNSPort is where the sidecar answers the program's DNS queries, over UDP
	// and TCP; 0: they are not captured [ISTIO_META_DNS_CAPTURE, --redirect-dns].
	DNSPort uint16
	// DNSServers limits that to queries to these servers; nil means queries to
	// any [not nil without --capture-all-dns].
	DNSServers []netip.Addr

	// ProxyUIDs, ProxyGIDs and ProxyMarks say who the sidecar is; a socket that
	// matches any one of them is its own. Marks (SO_MARK) can be set only with
	// CAP_NET_ADMIN or CAP_NET_RAW over the network namespace.
	ProxyUIDs, ProxyGIDs, ProxyMarks []uint32

	// Inbound is how inbound connections are captured [ISTIO_INBOUND_INTERCEPTION_MODE, -m].
	Inbound Mode
	// InboundPorts is captured; nil means every port [ISTIO_INBOUND_PORTS, -b].
	InboundPorts []PortRange
	// ExcludeInboundPorts goes straight to the program [ISTIO_LOCAL_EXCLUDE_PORTS, -d].
	ExcludeInboundPorts []PortRange
	// ExcludeInboundCIDRs lists sources whose connections go straight to the program.
	ExcludeInboundCIDRs []netip.Prefix

	// OutboundCIDRs is captured; nil means every destination, an empty non-nil
	// slice means none [ISTIO_SERVICE_CIDR, -i].
	OutboundCIDRs []netip.Prefix
	// ExcludeOutboundCIDRs is never captured [ISTIO_SERVICE_EXCLUDE_CIDR, -x].
	ExcludeOutboundCIDRs []netip.Prefix
	// OutboundPorts is captured to any destination that is not excluded, in
	// addition to OutboundCIDRs [ISTIO_OUTBOUND_PORTS, -q].
	OutboundPorts []PortRange
	// ExcludeOutboundPorts is never captured [ISTIO_LOCAL_OUTBOUND_PORTS_EXCLUDE, -o].
	ExcludeOutboundPorts []PortRange
	// ExcludeUIDs and ExcludeGIDs name owners whose connections go out directly
	// [ISTIO_OUTBOUND_OWNER_GROUPS_EXCLUDE].
	ExcludeUIDs, ExcludeGIDs []IDRange
	// OutboundGIDs, when not empty, restricts capture to these groups
	// [ISTIO_OUTBOUND_OWNER_GROUPS].
	OutboundGIDs []IDRange

	// ExcludeInterfaces is left alone in both directions. A trailing * matches
	// any ending [ISTIO_EXCLUDE_INTERFACES, -c].
	ExcludeInterfaces []string
	// GuestInterfaces carry traffic of virtual machines or containers inside the
	// pod; what arrives there is outbound traffic [-k].
	GuestInterfaces []string

	// DropInvalid drops packets that belong to no known connection; without it a
	// late segment can reset a healthy one [INVALID_DROP].
	DropInvalid bool
	// Families limits capture; the other family is then not captured at all.
	Families Families

	// TProxyMark and RouteTable are used by the TPROXY mode only [-t, -r].
	// TProxyMark+1 marks what the sidecar sends to its own pod.
	TProxyMark uint32
	RouteTable uint32
}

// DefaultConfig captures all TCP in both directions with Istio's ports and ids.
func DefaultConfig() Config {
	return Config{
		OutboundPort: DefaultOutboundPort, InboundPort: DefaultInboundPort, TunnelPort: DefaultTunnelPort,
		ProxyUIDs: []uint32{DefaultProxyID}, ProxyGIDs: []uint32{DefaultProxyID},
		Inbound: Redirect, TProxyMark: DefaultTProxyMark, RouteTable: DefaultRouteTable,
	}
}

// Validate reports every contradiction in c, each with the field it is in.
// A nil result means Plan succeeds.
func (c Config) Validate() error {
	var v problems
	c.validatePorts(&v)
	c.validateIdentity(&v)
	c.validateNames(&v)
	c.validateDNS(&v)
	for _, l := range []struct {
		field string
		cidrs []netip.Prefix
	}{
		{"exclude inbound CIDRs", c.ExcludeInboundCIDRs}, {"outbound CIDRs", c.OutboundCIDRs},
		{"exclude outbound CIDRs", c.ExcludeOutboundCIDRs},
	} {
		v.limit(l.field, len(l.cidrs))
		for _, p := range l.cidrs {
			if !p.IsValid() {
				v.add("%s: not a network address: %v", l.field, p)
			} else if p.Addr().Is4In6() {
				v.add("%s: %v is an IPv4 address in IPv6 form; write it as IPv4", l.field, p)
			}
		}
	}
	switch c.Inbound {
	case Redirect, None:
	case TProxy:
		if c.TProxyMark == 0 || c.TProxyMark == ^uint32(0) {
			v.add("tproxy mark: %d cannot be used; the default is %d", c.TProxyMark, DefaultTProxyMark)
		}
		if c.RouteTable == 0 || (c.RouteTable >= 253 && c.RouteTable <= 255) {
			v.add("route table: %d belongs to the system; the default is %d", c.RouteTable, DefaultRouteTable)
		}
		for _, m := range c.ProxyMarks {
			if m == c.TProxyMark || m == c.TProxyMark+1 {
				v.add("proxy mark: %#x is used by TPROXY itself (%d and %d)", m, c.TProxyMark, c.TProxyMark+1)
			}
		}
	default:
		v.add("inbound mode: %q is unknown; use %s, %s or %s", c.Inbound, Redirect, TProxy, None)
	}
	if c.Families > IPv6Only {
		v.add("families: unknown value %d", c.Families)
	}
	return v.err()
}

func (c Config) validatePorts(v *problems) {
	if c.OutboundPort == 0 {
		v.add("outbound port: must not be 0")
	}
	if c.Inbound != None && c.InboundPort == 0 {
		v.add("inbound port: must not be 0 (use inbound mode %s to leave inbound traffic alone)", None)
	}
	if c.Inbound != None && c.OutboundPort == c.InboundPort {
		v.add("inbound port: %d is the outbound port too; the sidecar could not tell the directions apart", c.InboundPort)
	}
	if c.TunnelPort != 0 && (c.TunnelPort == c.OutboundPort || c.TunnelPort == c.InboundPort) {
		v.add("tunnel port: %d is also a capture port", c.TunnelPort)
	}
	for _, l := range []struct {
		field string
		ports []PortRange
	}{
		{"inbound ports", c.InboundPorts}, {"exclude inbound ports", c.ExcludeInboundPorts},
		{"outbound ports", c.OutboundPorts}, {"exclude outbound ports", c.ExcludeOutboundPorts},
	} {
		v.limit(l.field, len(l.ports))
		for _, r := range l.ports {
			if r.First == 0 || r.First > r.Last {
				v.add("%s: %d-%d is not a range of ports 1-65535", l.field, r.First, r.Last)
			}
		}
	}
	for _, pair := range []struct {
		field    string
		in, notQ []PortRange
	}{
		{"exclude inbound ports", c.InboundPorts, c.ExcludeInboundPorts},
		{"exclude outbound ports", c.OutboundPorts, c.ExcludeOutboundPorts},
	} {
		for _, x := range pair.notQ {
			if slices.Contains(pair.in, x) {
				v.add("%s: %s is both captured and excluded", pair.field, x)
			}
		}
	}
}

func (c Config) validateIdentity(v *problems) {
	if len(c.ProxyUIDs)+len(c.ProxyGIDs)+len(c.ProxyMarks) == 0 {
		v.add("proxy uid, gid or mark: at least one is needed, or the sidecar would capture itself")
	}
	for _, m := range c.ProxyMarks {
		if m == 0 {
			v.add("proxy mark: 0 is the mark of every ordinary socket")
		}
	}
	v.limit("proxy ids", len(c.ProxyUIDs)+len(c.ProxyGIDs)+len(c.ProxyMarks))
	for _, l := range []struct {
		field string
		ids   []IDRange
		proxy []uint32
	}{
		{"exclude uids", c.ExcludeUIDs, nil}, {"exclude gids", c.ExcludeGIDs, nil}, {"outbound gids", c.OutboundGIDs, c.ProxyGIDs},
	} {
		v.limit(l.field, len(l.ids))
		for _, r := range l.ids {
			if r.First > r.Last {
				v.add("%s: %d-%d is not a range", l.field, r.First, r.Last)
			}
			for _, p := range l.proxy {
				if p >= r.First && p <= r.Last {
					v.add("%s: %d is the sidecar's own id and is never captured", l.field, p)
				}
			}
		}
	}
	if len(c.OutboundGIDs) > 0 && len(c.ExcludeGIDs) > 0 {
		v.add("outbound gids: give either groups to capture or groups to exclude, not both")
	}
}

func (c Config) validateNames(v *problems) {
	for _, l := range []struct {
		field string
		names []string
	}{{"exclude interfaces", c.ExcludeInterfaces}, {"guest interfaces", c.GuestInterfaces}} {
		v.limit(l.field, len(l.names))
		for _, n := range l.names {
			base := strings.TrimSuffix(n, "*")
			// IFNAMSIZ is 16 with the final zero byte; the rest is what the
			// kernel's dev_valid_name and the rule languages both accept.
			if base == "" || len(n) > 15 || strings.ContainsFunc(base, func(r rune) bool {
				return r <= ' ' || r > '~' || strings.ContainsRune("/:*+\"'\\{};,", r)
			}) {
				v.add("%s: %q is not the name of a network interface", l.field, n)
			}
			if n == "lo" {
				v.add("%s: lo cannot be listed: the rules for the sidecar's own loopback traffic need it", l.field)
			}
		}
	}
	for _, n := range c.GuestInterfaces {
		if slices.Contains(c.ExcludeInterfaces, n) {
			v.add("guest interfaces: %s is excluded too", n)
		}
	}
}

// problems collects findings so that a user repairs a file once, not once per finding.
type problems []string

func (p *problems) add(format string, args ...any) { *p = append(*p, fmt.Sprintf(format, args...)) }

func (p *problems) limit(field string, n int) {
	if n > maxEntries {
		p.add("%s: %d entries; at most %d (use ranges or wider networks)", field, n, maxEntries)
	}
}

func (p *problems) err() error {
	if len(*p) == 0 {
		return nil
	}
	return &ConfigError{Problems: *p}
}

// ConfigError is what Validate and Plan return for a configuration that
// contradicts itself.
type ConfigError struct{ Problems []string }

func (e *ConfigError) Error() string {
	return "iptables: " + strings.Join(e.Problems, "; ")
}
