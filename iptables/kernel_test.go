package iptables

import (
	"context"
	"errors"
	"net/netip"
	"os/exec"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

func TestApplyTwiceVerifyUndo(t *testing.T) {
	for name, c := range plans(t) {
		for _, with := range []Backend{NFTables, IPTables} {
			t.Run(name+"/"+string(with), func(t *testing.T) {
				if with == IPTables {
					requireProgram(t, "iptables-restore", "ip6tables-restore", "iptables-save")
				}
				rs, s := mustPlan(t, c), newSpace(t)
				s.do(func() {
					if _, err := Verify(rs); !errors.Is(err, ErrMissing) {
						t.Errorf("verify of an empty namespace: %v", err)
					}
					for i, changed := range []bool{true, false} {
						done, err := Apply(rs, with)
						if err != nil || done.Changed != changed || done.Backend != with {
							t.Errorf("apply %d: %+v, %v", i+1, done, err)
						}
						if diff, err := Verify(rs); err != nil || len(diff) > 0 {
							t.Errorf("verify after apply %d: %v\n%s", i+1, err, strings.Join(diff, "\n"))
						}
					}
					for range 2 {
						s.must(Undo(Routing{}))
						if _, err := Verify(rs); !errors.Is(err, ErrMissing) {
							t.Errorf("verify after undo: %v", err)
						}
					}
					if rules, err := netlink.RuleList(unix.AF_INET); err != nil || len(rules) != 3 {
						t.Errorf("routing rules left: %v %v", rules, err)
					}
				})
			})
		}
	}
}

func TestOnePlanReplacesAnother(t *testing.T) {
	all := plans(t)
	for _, with := range []Backend{NFTables, IPTables} {
		t.Run(string(with), func(t *testing.T) {
			if with == IPTables {
				requireProgram(t, "iptables-restore", "ip6tables-restore", "iptables-save")
			}
			s := newSpace(t)
			s.do(func() {
				for _, name := range []string{"full_tproxy", "default", "full", "tproxy", "nothing"} {
					rs := mustPlan(t, all[name])
					_, err := Apply(rs, with)
					s.must(err)
					if diff, err := Verify(rs); err != nil || len(diff) > 0 {
						t.Errorf("%s: %v\n%s", name, err, strings.Join(diff, "\n"))
					}
				}
			})
		})
	}
}

// What "plan" prints and what Apply programs are the same rules.
func TestPrintedRulesAreTheProgrammedOnes(t *testing.T) {
	requireProgram(t, "nft")
	for name, c := range plans(t) {
		t.Run(name, func(t *testing.T) {
			rs, s := mustPlan(t, c), newSpace(t)
			s.do(func() {
				cmd := exec.Command("nft", "-f", "-")
				cmd.Stdin = strings.NewReader(rs.NFT())
				if out, err := cmd.CombinedOutput(); err != nil {
					t.Errorf("nft: %v\n%s", err, out)
				}
				// nft may arrange expressions of a rule in its own way (it cuts
				// a network to whole bytes), so compare what it lists.
				fromText := list(t)
				_, err := Apply(rs, NFTables)
				s.must(err)
				if programmed := list(t); programmed != fromText {
					t.Errorf("programmed:\n%s\nfrom text:\n%s", programmed, fromText)
				}
			})
		})
	}
}

func list(t *testing.T) string {
	out, err := exec.Command("nft", "list", "table", "inet", tableName).CombinedOutput()
	if err != nil {
		t.Errorf("nft list: %v\n%s", err, out)
	}
	return strings.ReplaceAll(string(out), "priority -100", "priority dstnat")
}

func TestVerifyNamesWhatWasChanged(t *testing.T) {
	requireProgram(t, "nft", "iptables")
	rs := mustPlan(t, DefaultConfig())
	for _, tc := range []struct{ with, change, want string }{
		{"nftables", "nft flush chain inet mecha out_redirect", "out_redirect: rule 1 missing"},
		{"nftables", "nft add rule inet mecha outbound tcp dport 5432 return", "outbound: rule 11 is not in the plan"},
		{"nftables", "nft insert rule inet mecha outbound meta skuid 1000 return", "outbound: rule 1 is not in the plan"},
		{"nftables", "nft flush chain inet mecha in_redirect; add rule inet mecha in_redirect meta l4proto tcp counter redirect to :15001", "in_redirect: rule 1 was changed"},
		{"nftables", "nft add chain inet mecha mine", "mine: chain is not in the plan"},
		{"nftables", "nft flush ruleset", "no capture rules"},
		{"nftables", "ip -6 addr del ::6/128 dev lo", "lo has no ::6"},
		{"iptables", "iptables -t nat -D MECHA_OUTBOUND 1", "IPv4 rule was changed"},
		{"iptables", "iptables -t nat -D OUTPUT 1", "IPv4 OUTPUT: jump to MECHA_NAT_OUTPUT missing"},
		{"iptables", "ip6tables -t nat -A MECHA_OUTBOUND -j RETURN", "IPv6 rule is not in the plan"},
	} {
		t.Run(tc.change, func(t *testing.T) {
			s := newSpace(t)
			s.do(func() {
				_, err := Apply(rs, Backend(tc.with))
				s.must(err)
				args := strings.Fields(tc.change)
				if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
					t.Errorf("%s: %v %s", tc.change, err, out)
				}
				diff, err := Verify(rs)
				if got := strings.Join(diff, "\n") + errText(err); !strings.Contains(got, tc.want) {
					t.Errorf("difference %q, want %q", got, tc.want)
				}
				done, err := Apply(rs, Backend(tc.with))
				if err != nil || !done.Changed {
					t.Errorf("repair: %+v %v", done, err)
				}
				if diff, err := Verify(rs); err != nil || len(diff) > 0 {
					t.Errorf("after repair: %v %v", diff, err)
				}
			})
		})
	}
}

func errText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// Other programs' rules are none of our business, in either direction.
func TestForeignRulesSurvive(t *testing.T) {
	requireProgram(t, "iptables", "iptables-restore")
	s := newSpace(t)
	s.do(func() {
		out, err := exec.Command("iptables", "-t", "nat", "-A", "OUTPUT", "-d", "10.9.9.9", "-j", "RETURN").CombinedOutput()
		if err != nil {
			t.Errorf("%v %s", err, out)
		}
		for _, with := range []Backend{NFTables, IPTables} {
			_, err := Apply(mustPlan(t, DefaultConfig()), with)
			s.must(err)
			s.must(Undo(Routing{}))
			out, _ := exec.Command("iptables-save", "-t", "nat").CombinedOutput()
			if !strings.Contains(string(out), "10.9.9.9") || strings.Contains(string(out), chainPrefix) {
				t.Errorf("%s: after undo:\n%s", with, out)
			}
		}
	})
}

func TestLargestPlanFitsOneTransaction(t *testing.T) {
	c := DefaultConfig()
	for i := range uint32(maxEntries) {
		a := netip.AddrFrom16([16]byte{0xfd, 0, 2: byte(i >> 8), 3: byte(i)})
		c.ExcludeOutboundCIDRs = append(c.ExcludeOutboundCIDRs, netip.PrefixFrom(a, 33))
		c.ExcludeUIDs = append(c.ExcludeUIDs, IDRange{10 * i, 10*i + 5})
	}
	if _, err := Plan(c); err != nil {
		t.Fatal(err)
	}
	for i := range uint32(maxEntries) {
		c.ExcludeGIDs = append(c.ExcludeGIDs, IDRange{i, i})
	}
	if _, err := Plan(c); err == nil || !strings.Contains(err.Error(), "at most 600") {
		t.Errorf("too many rules: %v", err)
	}
	c.ExcludeGIDs = c.ExcludeGIDs[:60]
	rs, s := mustPlan(t, c), newSpace(t)
	s.do(func() {
		_, err := Apply(rs, NFTables)
		s.must(err)
		if diff, err := Verify(rs); err != nil || len(diff) > 0 {
			t.Errorf("%v %v", diff, err)
		}
	})
}

func TestSelfTest(t *testing.T) {
	pod, client := newSpace(t), newSpace(t)
	cable(t, pod, client, []string{"10.7.0.2/24", "fd07::2/64"}, []string{"10.7.0.1/24", "fd07::1/64"})
	for _, with := range []Backend{NFTables, IPTables} {
		for _, mode := range []Mode{Redirect, TProxy, None} {
			for _, who := range []string{"uid", "mark"} {
				t.Run(string(with)+"/"+string(mode)+"/"+who, func(t *testing.T) {
					if with == IPTables {
						requireProgram(t, "iptables-restore", "ip6tables-restore")
					}
					c := DefaultConfig()
					c.Inbound = mode
					if who == "mark" {
						c.ProxyUIDs, c.ProxyGIDs, c.ProxyMarks = nil, nil, []uint32{DefaultProxyMark}
					}
					pod.do(func() {
						_, err := Apply(mustPlan(t, c), with)
						pod.must(err)
						checks, err := SelfTest(context.Background(), c)
						pod.must(err)
						for _, k := range checks {
							if k.Skipped != "" && (mode != None || !strings.Contains(k.Skipped, "no inbound capture")) {
								t.Errorf("%s: skipped: %s", k.Name, k.Skipped)
							}
						}
						if len(checks) != 6 {
							t.Errorf("%d checks: %v", len(checks), checks)
						}
						pod.must(Undo(Routing{}))
					})
				})
			}
		}
	}
}

func TestSelfTestFindsBrokenRules(t *testing.T) {
	requireProgram(t, "nft")
	c := DefaultConfig()
	for _, tc := range []struct{ name, change, want string }{
		{"no rules", "flush ruleset", "the program's outbound connection reaches the sidecar"},
		{"wrong port", "flush chain inet mecha out_redirect; add rule inet mecha out_redirect meta l4proto tcp redirect to :15099", "expected it to arrive at port 15001"},
		{"sidecar captured", "insert rule inet mecha outbound ip daddr 192.0.2.0/24 goto out_redirect", "the sidecar would connect to itself"},
		{"inbound lost", "flush chain inet mecha in_redirect", "own address is inbound"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			pod, client := newSpace(t), newSpace(t)
			cable(t, pod, client, []string{"10.7.0.2/24", "fd07::2/64"}, []string{"10.7.0.1/24", "fd07::1/64"})
			// A peer that refuses at once keeps the test short.
			client.do(func() {
				lo, err := netlink.LinkByName("lo")
				client.must(err)
				client.must(netlink.RouteAdd((&Routing{Table: unix.RT_TABLE_LOCAL}).route(unix.AF_INET, lo.Attrs().Index)))
			})
			pod.do(func() {
				_, err := Apply(mustPlan(t, c), NFTables)
				pod.must(err)
				if out, err := exec.Command("nft", tc.change).CombinedOutput(); err != nil {
					t.Errorf("nft: %v %s", err, out)
				}
				if _, err := SelfTest(context.Background(), c); err == nil || !strings.Contains(err.Error(), tc.want) {
					t.Errorf("error %v, want one with %q", err, tc.want)
				}
			})
		})
	}
}

func TestSelfTestWhileTheSidecarRuns(t *testing.T) {
	s := newSpace(t)
	s.listen(DefaultInboundPort, false)
	s.do(func() {
		if _, err := SelfTest(context.Background(), DefaultConfig()); !errors.Is(err, ErrBusy) {
			t.Errorf("error %v", err)
		}
	})
}
