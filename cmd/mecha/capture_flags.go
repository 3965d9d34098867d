package main

import (
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/mecha-mesh/mecha/iptables"
	"github.com/mecha-mesh/mecha/proxy/dnsproxy"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// captureFlag is one setting of the rules: a flag with Istio's letter, Istio's
// long name as an alias, and Istio's environment variable as the default.
type captureFlag struct {
	name, letter, alias, env, value, usage string
	set                                    func(c *iptables.Config, v string) error
}

// captureFlags lists the settings in the order of the help text.
func captureFlags() []captureFlag {
	return []captureFlag{
		{"outbound-port", "p", "envoy-port", "ENVOY_PORT", "15001", "port on which the sidecar accepts what the program opens", onePortFlag(func(c *iptables.Config) *uint16 { return &c.OutboundPort })},
		{"inbound-port", "z", "inbound-capture-port", "INBOUND_CAPTURE_PORT", "15006", "port on which the sidecar accepts what others open", onePortFlag(func(c *iptables.Config) *uint16 { return &c.InboundPort })},
		{"tunnel-port", "e", "inbound-tunnel-port", "INBOUND_TUNNEL_PORT", "15008", "port of tunnelled mesh traffic, never captured; 0 for none", onePortFlag(func(c *iptables.Config) *uint16 { return &c.TunnelPort })},
		{"proxy-uid", "u", "", "PROXY_UID", "1337", "user ids of the sidecar, whose own traffic is not captured; \"\" for none", idListFlag(func(c *iptables.Config) *[]uint32 { return &c.ProxyUIDs })},
		{"proxy-gid", "g", "", "PROXY_GID", "1337", "group ids of the sidecar; \"\" for none", idListFlag(func(c *iptables.Config) *[]uint32 { return &c.ProxyGIDs })},
		{"proxy-mark", "", "", "PROXY_MARK", "", "socket marks (SO_MARK) of the sidecar, where ids cannot tell it from the program", idListFlag(func(c *iptables.Config) *[]uint32 { return &c.ProxyMarks })},
		{"inbound-mode", "m", "istio-inbound-interception-mode", "ISTIO_INBOUND_INTERCEPTION_MODE", "REDIRECT", "how inbound connections are captured: REDIRECT, TPROXY (keeps the client's address) or NONE", func(c *iptables.Config, v string) error {
			c.Inbound = iptables.Mode(strings.ToUpper(v))
			return nil
		}},
		{"inbound-ports", "b", "istio-inbound-ports", "ISTIO_INBOUND_PORTS", "*", "inbound ports to capture: *, or a list such as 80,8000-8100; \"\" for none", orAllFlag(iptables.ParsePorts, func(c *iptables.Config) *[]iptables.PortRange { return &c.InboundPorts })},
		{"exclude-inbound-ports", "d", "istio-local-exclude-ports", "ISTIO_LOCAL_EXCLUDE_PORTS", "", "inbound ports that go straight to the program", listFlag(iptables.ParsePorts, func(c *iptables.Config) *[]iptables.PortRange { return &c.ExcludeInboundPorts })},
		{"exclude-inbound-cidrs", "", "", "", "", "networks whose connections go straight to the program", listFlag(iptables.ParseCIDRs, func(c *iptables.Config) *[]netip.Prefix { return &c.ExcludeInboundCIDRs })},
		{"outbound-cidrs", "i", "istio-service-cidr", "ISTIO_SERVICE_CIDR", "*", "destinations to capture: *, or a list of networks; \"\" for none", orAllFlag(iptables.ParseCIDRs, func(c *iptables.Config) *[]netip.Prefix { return &c.OutboundCIDRs })},
		{"exclude-outbound-cidrs", "x", "istio-service-exclude-cidr", "ISTIO_SERVICE_EXCLUDE_CIDR", "", "destinations the program reaches directly", listFlag(iptables.ParseCIDRs, func(c *iptables.Config) *[]netip.Prefix { return &c.ExcludeOutboundCIDRs })},
		{"outbound-ports", "q", "istio-outbound-ports", "ISTIO_OUTBOUND_PORTS", "", "destination ports to capture in addition to --outbound-cidrs", listFlag(iptables.ParsePorts, func(c *iptables.Config) *[]iptables.PortRange { return &c.OutboundPorts })},
		{"exclude-outbound-ports", "o", "istio-local-outbound-ports-exclude", "ISTIO_LOCAL_OUTBOUND_PORTS_EXCLUDE", "", "destination ports the program reaches directly", listFlag(iptables.ParsePorts, func(c *iptables.Config) *[]iptables.PortRange { return &c.ExcludeOutboundPorts })},
		{"exclude-uids", "", "", "ISTIO_OUTBOUND_OWNER_USERS_EXCLUDE", "", "users whose connections are not captured, such as 33,1000-1999", listFlag(iptables.ParseIDs, func(c *iptables.Config) *[]iptables.IDRange { return &c.ExcludeUIDs })},
		{"exclude-gids", "", "", "ISTIO_OUTBOUND_OWNER_GROUPS_EXCLUDE", "", "groups whose connections are not captured", listFlag(iptables.ParseIDs, func(c *iptables.Config) *[]iptables.IDRange { return &c.ExcludeGIDs })},
		{"outbound-gids", "", "", "ISTIO_OUTBOUND_OWNER_GROUPS", "*", "groups to capture: *, or a list", orAllFlag(iptables.ParseIDs, func(c *iptables.Config) *[]iptables.IDRange { return &c.OutboundGIDs })},
		{"exclude-interfaces", "c", "istio-exclude-interfaces", "ISTIO_EXCLUDE_INTERFACES", "", "interfaces without capture; a trailing * matches any ending", wordsFlag(func(c *iptables.Config) *[]string { return &c.ExcludeInterfaces })},
		{"guest-interfaces", "k", "kube-virt-interfaces", "KUBE_VIRT_INTERFACES", "", "interfaces of virtual machines in the pod; what arrives there is outbound", wordsFlag(func(c *iptables.Config) *[]string { return &c.GuestInterfaces })},
		{"drop-invalid", "", "", "INVALID_DROP", "false", "drop packets of no known connection", func(c *iptables.Config, v string) (err error) {
			c.DropInvalid, err = strconv.ParseBool(v)
			return err
		}},
		{"redirect-dns", "", "", "ISTIO_META_DNS_CAPTURE", "false", "send DNS queries to the resolvers of /etc/resolv.conf to the sidecar, over UDP and TCP", redirectDNS},
		{"dns-port", "", "", "", "15053", "port on which the sidecar answers them", func(c *iptables.Config, v string) error {
			if c.DNSPort == 0 { // they are not captured
				return onePortFlag(func(*iptables.Config) *uint16 { return new(uint16) })(c, v)
			}
			return onePortFlag(func(c *iptables.Config) *uint16 { return &c.DNSPort })(c, v)
		}},
		{"capture-all-dns", "", "", "CAPTURE_ALL_DNS", "false", "with --redirect-dns: queries to any server", func(c *iptables.Config, v string) error {
			all, err := strconv.ParseBool(v)
			if all {
				c.DNSServers = nil
			}
			return err
		}},
		{"family", "", "", "", "dual", "IP versions to capture: dual, ipv4 or ipv6", func(c *iptables.Config, v string) error {
			f, ok := map[string]iptables.Families{"dual": iptables.DualStack, "ipv4": iptables.IPv4Only, "ipv6": iptables.IPv6Only}[strings.ToLower(v)]
			if !ok {
				return fmt.Errorf("expected dual, ipv4 or ipv6")
			}
			c.Families = f
			return nil
		}},
		{"tproxy-mark", "t", "istio-inbound-tproxy-mark", "INBOUND_TPROXY_MARK", "1337", "mark of packets that TPROXY delivers; the next number is used too", oneIDFlag(func(c *iptables.Config) *uint32 { return &c.TProxyMark })},
		{"tproxy-route-table", "r", "istio-inbound-tproxy-route-table", "INBOUND_TPROXY_ROUTE_TABLE", "133", "routing table for marked packets", oneIDFlag(func(c *iptables.Config) *uint32 { return &c.RouteTable })},
	}
}

// captureSettings are the parsed flags of one command.
type captureSettings struct{ values map[string]*string }

// addCaptureFlags adds the flags to cmd; only, if given, limits them to these names.
func addCaptureFlags(cmd *cobra.Command, only ...string) *captureSettings {
	s := &captureSettings{values: make(map[string]*string)}
	alias := make(map[string]string)
	for _, f := range captureFlags() {
		if len(only) > 0 && !slices.Contains(only, f.name) {
			continue
		}
		usage := f.usage
		if f.env != "" && len(only) == 0 {
			usage += " [$" + f.env + "]"
		}
		letter := f.letter
		if len(only) > 0 {
			letter = ""
		}
		s.values[f.name] = cmd.Flags().StringP(f.name, letter, f.value, usage)
		if f.alias != "" && len(only) == 0 {
			alias[f.alias] = f.name
		}
	}
	cmd.Flags().SetNormalizeFunc(func(_ *pflag.FlagSet, name string) pflag.NormalizedName {
		if n, ok := alias[name]; ok {
			name = n
		}
		return pflag.NormalizedName(name)
	})
	if len(only) == 0 {
		for _, name := range []string{"drop-invalid", "redirect-dns", "capture-all-dns"} {
			cmd.Flags().Lookup(name).NoOptDefVal = "true"
		}
	}
	return s
}

// apply writes the settings into c: the flag, else (with env) the environment
// variable, else the default.
func (s *captureSettings) apply(cmd *cobra.Command, c *iptables.Config, env bool) error {
	for _, f := range captureFlags() {
		v, ok := s.values[f.name]
		if !ok {
			continue
		}
		value, where := *v, "--"+f.name
		if e := os.Getenv(f.env); env && f.env != "" && e != "" && !cmd.Flags().Changed(f.name) {
			value, where = e, "$"+f.env
		}
		if err := f.set(c, value); err != nil {
			return usageError{fmt.Errorf("%s: %w", where, err)}
		}
	}
	if err := c.Validate(); err != nil {
		return usageError{err}
	}
	return nil
}

// redirectDNS captures queries to the servers that the pod's programs ask.
func redirectDNS(c *iptables.Config, v string) error {
	on, err := strconv.ParseBool(v)
	if !on || err != nil {
		return err
	}
	servers, _, err := dnsproxy.ReadResolvConf(resolvConf)
	if err != nil {
		return err
	}
	c.DNSPort = iptables.DefaultDNSPort
	for _, s := range servers {
		// A server with a zone is a neighbour on one link; the rules know addresses only.
		if a := s.Addr().WithZone(""); !slices.Contains(c.DNSServers, a) {
			c.DNSServers = append(c.DNSServers, a)
		}
	}
	return nil
}

func onePortFlag(field func(*iptables.Config) *uint16) func(*iptables.Config, string) error {
	return func(c *iptables.Config, v string) error {
		n, err := strconv.ParseUint(v, 10, 16)
		if err != nil {
			return fmt.Errorf("%q: expected a port from 0 to 65535", v)
		}
		*field(c) = uint16(n)
		return nil
	}
}

func oneIDFlag(field func(*iptables.Config) *uint32) func(*iptables.Config, string) error {
	return func(c *iptables.Config, v string) error {
		n, err := strconv.ParseUint(v, 0, 32)
		if err != nil {
			return fmt.Errorf("%q: expected a number", v)
		}
		*field(c) = uint32(n)
		return nil
	}
}

func idListFlag(field func(*iptables.Config) *[]uint32) func(*iptables.Config, string) error {
	return func(c *iptables.Config, v string) error {
		*field(c) = nil
		for item := range strings.SplitSeq(v, ",") {
			if item = strings.TrimSpace(item); item == "" {
				continue
			}
			n, err := strconv.ParseUint(item, 0, 32)
			if err != nil {
				return fmt.Errorf("%q: expected numbers, separated by commas", item)
			}
			*field(c) = append(*field(c), uint32(n))
		}
		return nil
	}
}

func listFlag[T any](parse func(string) ([]T, error), field func(*iptables.Config) *[]T) func(*iptables.Config, string) error {
	return func(c *iptables.Config, v string) (err error) {
		*field(c), err = parse(v)
		return err
	}
}

// orAllFlag reads a list in which * means everything and nothing means nothing.
func orAllFlag[T any](parse func(string) ([]T, error), field func(*iptables.Config) *[]T) func(*iptables.Config, string) error {
	return func(c *iptables.Config, v string) error {
		if v == "*" {
			*field(c) = nil
			return nil
		}
		l, err := parse(v)
		if err == nil && l == nil {
			l = []T{}
		}
		*field(c) = l
		return err
	}
}

func wordsFlag(field func(*iptables.Config) *[]string) func(*iptables.Config, string) error {
	return func(c *iptables.Config, v string) error {
		*field(c) = strings.FieldsFunc(v, func(r rune) bool { return r == ',' || r == ' ' })
		return nil
	}
}
