package iptables

import (
	"flag"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var rewrite = flag.Bool("rewrite", false, "write the golden files from what the code does now")

// plans are the configurations with golden files, by file name.
func plans(t testing.TB) map[string]Config {
	ports := func(s string) []PortRange { return must(ParsePorts(s))(t) }
	ids := func(s string) []IDRange { return must(ParseIDs(s))(t) }
	cidrs := func(s string) []netip.Prefix { return must(ParseCIDRs(s))(t) }

	full := DefaultConfig()
	full.ProxyUIDs, full.ProxyGIDs, full.ProxyMarks = []uint32{1337, 5678}, []uint32{1337}, []uint32{DefaultProxyMark}
	full.InboundPorts, full.ExcludeInboundPorts = ports("80,8000-8100"), ports("15090,15021,15020")
	full.ExcludeInboundCIDRs = cidrs("10.9.0.0/16,fd09::/16")
	full.OutboundCIDRs, full.ExcludeOutboundCIDRs = cidrs("10.0.0.0/8,192.168.7.4,fd00::/8"), cidrs("10.1.0.0/17,fd00:1::/33")
	full.OutboundPorts, full.ExcludeOutboundPorts = ports("9000"), ports("22,3306-3310")
	full.ExcludeUIDs, full.OutboundGIDs = ids("33,1000-1999"), ids("100,200-300")
	full.ExcludeInterfaces, full.GuestInterfaces = []string{"eth1", "br-*"}, []string{"tap0"}
	full.DropInvalid = true
	fullTProxy := full
	fullTProxy.Inbound = TProxy

	tproxy := DefaultConfig()
	tproxy.Inbound = TProxy
	outboundOnly := DefaultConfig()
	outboundOnly.Inbound, outboundOnly.Families = None, IPv4Only
	nothing := DefaultConfig()
	nothing.OutboundCIDRs, nothing.InboundPorts = []netip.Prefix{}, []PortRange{}
	v6 := DefaultConfig()
	v6.Families, v6.DropInvalid, v6.TunnelPort = IPv6Only, true, 0
	dns := DefaultConfig()
	dns.DNSPort = DefaultDNSPort
	fullDNS := full
	fullDNS.DNSPort, fullDNS.DNSServers = DefaultDNSPort, []netip.Addr{netip.MustParseAddr("10.0.0.10"), netip.MustParseAddr("fd00::a")}
	return map[string]Config{
		"dns": dns, "full_dns": fullDNS,
		"default": DefaultConfig(), "tproxy": tproxy, "full": full, "full_tproxy": fullTProxy,
		"outbound_only_ipv4": outboundOnly, "nothing": nothing, "ipv6": v6,
	}
}

func must[T any](v T, err error) func(testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func mustPlan(t testing.TB, c Config) *Ruleset {
	t.Helper()
	return must(Plan(c))(t)
}

func TestPlanGolden(t *testing.T) {
	for name, c := range plans(t) {
		t.Run(name, func(t *testing.T) {
			rs := mustPlan(t, c)
			golden(t, name+".nft", rs.NFT())
			golden(t, name+".words", rs.Words())
			text := ""
			for _, f := range rs.families() {
				text += rs.Restore(f, true)
			}
			golden(t, name+".iptables", text)
		})
	}
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *rewrite {
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s differs; look at it and run with -rewrite\ngot:\n%s", path, got)
	}
}

func TestEveryRuleSaysWhy(t *testing.T) {
	for name, c := range plans(t) {
		for _, ch := range mustPlan(t, c).Chains {
			for i, r := range ch.Rules {
				if r.Why == "" || len(r.Why) > maxComment || strings.ContainsAny(r.Why, "'\"\\\n") {
					t.Errorf("%s: %s rule %d: comment %q", name, ch.Name, i+1, r.Why)
				}
			}
		}
	}
}

func TestChainsComeAfterThoseTheyUse(t *testing.T) {
	for name, c := range plans(t) {
		seen := map[string]bool{}
		for _, ch := range mustPlan(t, c).Chains {
			for _, r := range ch.Rules {
				if r.Action.Chain != "" && !seen[r.Action.Chain] {
					t.Errorf("%s: %s uses %s before it exists", name, ch.Name, r.Action.Chain)
				}
			}
			if len(restoreName(ch.Name)) > 28 {
				t.Errorf("%s: %s is too long a name for iptables", name, restoreName(ch.Name))
			}
			seen[ch.Name] = true
		}
	}
}

func TestValidateNamesEachContradiction(t *testing.T) {
	r := func(a, b uint16) []PortRange { return []PortRange{{a, b}} }
	for _, tc := range []struct {
		name   string
		change func(*Config)
		want   string // "" is valid
	}{
		{"default", func(*Config) {}, ""},
		{"same ports", func(c *Config) { c.InboundPort = c.OutboundPort }, "inbound port: 15001 is the outbound port too"},
		{"same ports, no inbound", func(c *Config) { c.InboundPort, c.Inbound = c.OutboundPort, None }, ""},
		{"no outbound port", func(c *Config) { c.OutboundPort = 0 }, "outbound port: must not be 0"},
		{"no inbound port", func(c *Config) { c.InboundPort = 0 }, "inbound port: must not be 0"},
		{"tunnel on capture port", func(c *Config) { c.TunnelPort = 15006 }, "tunnel port: 15006 is also a capture port"},
		{"nobody is the sidecar", func(c *Config) { c.ProxyUIDs, c.ProxyGIDs = nil, nil }, "at least one is needed"},
		{"mark 0", func(c *Config) { c.ProxyMarks = []uint32{0} }, "0 is the mark of every ordinary socket"},
		{"mark of tproxy", func(c *Config) { c.Inbound, c.ProxyMarks = TProxy, []uint32{1338} }, "used by TPROXY itself"},
		{"mark of tproxy without tproxy", func(c *Config) { c.ProxyMarks = []uint32{1338} }, ""},
		{"system table", func(c *Config) { c.Inbound, c.RouteTable = TProxy, 254 }, "route table: 254 belongs to the system"},
		{"mode", func(c *Config) { c.Inbound = "redirect" }, `inbound mode: "redirect" is unknown`},
		{"both", func(c *Config) { c.InboundPorts, c.ExcludeInboundPorts = r(80, 80), r(80, 80) }, "80 is both captured and excluded"},
		{"a hole in a range", func(c *Config) { c.InboundPorts, c.ExcludeInboundPorts = r(80, 90), r(85, 85) }, ""},
		{"backwards", func(c *Config) { c.OutboundPorts = r(90, 80) }, "outbound ports: 90-80 is not a range"},
		{"include and exclude groups", func(c *Config) { c.OutboundGIDs, c.ExcludeGIDs = []IDRange{{1, 2}}, []IDRange{{3, 3}} }, "not both"},
		{"sidecar captured", func(c *Config) { c.OutboundGIDs = []IDRange{{1000, 2000}} }, "1337 is the sidecar's own id"},
		{"interface", func(c *Config) { c.ExcludeInterfaces = []string{"eth0;drop"} }, "not the name of a network interface"},
		{"interface too long", func(c *Config) { c.ExcludeInterfaces = []string{"abcdefghijklmnop"} }, "not the name of a network interface"},
		{"lo", func(c *Config) { c.ExcludeInterfaces = []string{"lo"} }, "lo cannot be listed"},
		{"guest excluded", func(c *Config) { c.ExcludeInterfaces, c.GuestInterfaces = []string{"tap0"}, []string{"tap0"} }, "tap0 is excluded too"},
		{"cidr", func(c *Config) { c.OutboundCIDRs = []netip.Prefix{{}} }, "outbound CIDRs: not a network address"},
		{"mapped", func(c *Config) { c.OutboundCIDRs = []netip.Prefix{netip.MustParsePrefix("::ffff:10.0.0.0/104")} }, "write it as IPv4"},
		{"too many", func(c *Config) { c.ExcludeInboundPorts = make([]PortRange, maxEntries+1) }, "257 entries; at most 256"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := DefaultConfig()
			tc.change(&c)
			_, err := Plan(c)
			switch {
			case tc.want == "" && err != nil:
				t.Errorf("refused: %v", err)
			case tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)):
				t.Errorf("error %v, want one with %q", err, tc.want)
			}
		})
	}
}

func TestParseLists(t *testing.T) {
	if got := must(ParsePorts(" 80, 8000-8100,,90:91 "))(t); len(got) != 3 || got[1] != (PortRange{8000, 8100}) || got[2] != (PortRange{90, 91}) {
		t.Errorf("ports: %v", got)
	}
	if got := must(ParseCIDRs("10.1.2.3/8,fd00::1"))(t); got[0].String() != "10.0.0.0/8" || got[1].String() != "fd00::1/128" {
		t.Errorf("networks: %v", got)
	}
	for _, bad := range []string{"0", "65536", "80-", "-80", "90-80", "http", "1-2-3", "+1"} {
		if v, err := ParsePorts(bad); err == nil {
			t.Errorf("ports %q: read as %v", bad, v)
		}
	}
	for _, bad := range []string{"10.0.0.0/33", "example.com", "fe80::1%eth0", "10.0.0/8"} {
		if v, err := ParseCIDRs(bad); err == nil {
			t.Errorf("networks %q: read as %v", bad, v)
		}
	}
}

func TestProbePicksWhatIsCaptured(t *testing.T) {
	c := DefaultConfig()
	c.ExcludeOutboundCIDRs = must(ParseCIDRs("192.0.2.0/24,::/0"))(t)
	c.ExcludeOutboundPorts = must(ParsePorts("15002,80"))(t)
	if dst, ok := c.outboundProbe(false); !ok || dst != netip.MustParseAddrPort("198.51.100.1:443") {
		t.Errorf("probe %v %v", dst, ok)
	}
	if dst, ok := c.outboundProbe(true); ok {
		t.Errorf("IPv6 is excluded, yet probe %v", dst)
	}
	c = DefaultConfig()
	c.OutboundCIDRs = must(ParseCIDRs("10.0.0.0/8"))(t)
	if dst, ok := c.outboundProbe(false); !ok || dst.Addr() != netip.MustParseAddr("10.0.0.1") {
		t.Errorf("probe %v %v", dst, ok)
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{"", "80", "80-90,1:2", "10.0.0.0/8", "fd00::/8,::1", "4294967295", "1-"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		c := DefaultConfig()
		var errs [3]error
		c.ExcludeOutboundPorts, errs[0] = ParsePorts(s)
		c.ExcludeUIDs, errs[1] = ParseIDs(s)
		c.ExcludeOutboundCIDRs, errs[2] = ParseCIDRs(s)
		// Whatever parses must be programmable or refused, and printable.
		if rs, err := Plan(c); err == nil {
			_, _, _ = rs.NFT(), rs.Restore(4, true), rs.Words()
		}
	})
}
