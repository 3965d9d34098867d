package iptables

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// hookChain is the kernel's own chain that enters ours.
func (ch Chain) hookChain() string { return strings.ToUpper(ch.Hook) }

func restoreName(chain string) string { return chainPrefix + strings.ToUpper(chain) }

// Restore renders the plan as input for iptables-restore (family 4) or
// ip6tables-restore (family 6) with --noflush. Rules are spelled as
// iptables-save prints them, so that Verify can compare text with text.
// Tables of other programs are not touched; our chains are replaced. jumps says
// whether to add the jumps from the kernel's chains, which --noflush would
// otherwise add a second time.
func (rs *Ruleset) Restore(family int, jumps bool) string {
	var b strings.Builder
	fmt.Fprintf(&b, "# IPv%d, for %s --noflush\n", family, restoreCommand(family))
	for _, table := range rs.restoreTables() {
		fmt.Fprintf(&b, "*%s\n", table)
		for _, ch := range rs.Chains {
			if ch.Table == table {
				fmt.Fprintf(&b, ":%s - [0:0]\n", restoreName(ch.Name))
			}
		}
		for _, ch := range rs.Chains {
			if ch.Table != table {
				continue
			}
			for _, line := range ch.restore(family) {
				b.WriteString(line + "\n")
			}
		}
		if jumps {
			for _, ch := range rs.Chains {
				if ch.Table == table && ch.Hook != "" {
					fmt.Fprintf(&b, "-I %s 1 %s\n", ch.hookChain(), ch.restoreJump())
				}
			}
		}
		b.WriteString("COMMIT\n")
	}
	return b.String()
}

func (rs *Ruleset) restoreTables() []string {
	var out []string
	for _, ch := range rs.Chains {
		if !slices.Contains(out, ch.Table) {
			out = append(out, ch.Table)
		}
	}
	return out
}

func restoreCommand(family int) string {
	if family == 6 {
		return "ip6tables-restore"
	}
	return "iptables-restore"
}

// restoreJump is the rule in the kernel's chain, without its position.
func (ch Chain) restoreJump() string {
	return fmt.Sprintf("-m comment --comment \"mecha: traffic capture starts here\" -j %s", restoreName(ch.Name))
}

func (ch Chain) restore(family int) []string {
	var out []string
	for _, r := range ch.Rules {
		if f := r.Match.family(); f != 0 && f != family {
			continue
		}
		w := append([]string{"-A", restoreName(ch.Name)}, r.Match.restore()...)
		w = append(w, "-m", "comment", "--comment", `"`+r.Why+`"`, r.Action.restore(family))
		out = append(out, strings.Join(w, " "))
	}
	return out
}

// family is the IP version the match is limited to, 0 for both.
func (m Match) family() int {
	for _, p := range []netip.Prefix{m.Src, m.Dst} {
		switch {
		case p.IsValid() && p.Addr().Is4():
			return 4
		case p.IsValid():
			return 6
		}
	}
	return int(m.Family)
}

// protocol is "tcp", "udp" or "" for any.
func (m Match) protocol() string {
	switch {
	case m.UDP:
		return "udp"
	case m.TCP, m.Ports.First != 0:
		return "tcp"
	}
	return ""
}

func (m Match) restore() []string {
	var w []string
	add := func(negate bool, words ...string) {
		if negate {
			w = append(w, "!")
		}
		w = append(w, words...)
	}
	if m.Src.IsValid() {
		add(false, "-s", m.Src.String())
	}
	if m.Dst.IsValid() {
		add(m.NotDst, "-d", m.Dst.String())
	}
	if m.In != "" {
		add(false, "-i", strings.Replace(m.In, "*", "+", 1))
	}
	if m.Out != "" {
		add(false, "-o", strings.Replace(m.Out, "*", "+", 1))
	}
	if p := m.protocol(); p != "" {
		add(false, "-p", p)
		if m.Ports.First != 0 || m.SrcPort != 0 {
			add(false, "-m", p)
		}
	}
	if m.SrcPort != 0 {
		add(false, "--sport", strconv.Itoa(int(m.SrcPort)))
	}
	if m.Ports.First != 0 {
		add(m.NotPorts, "--dport", rangeText(uint64(m.Ports.First), uint64(m.Ports.Last), ":"))
	}
	if m.UID != nil {
		add(false, "-m", "owner", "--uid-owner", m.UID.String())
	}
	if m.GID != nil {
		add(false, "-m", "owner", "--gid-owner", m.GID.String())
	}
	for _, g := range m.NotGIDs {
		add(false, "-m", "owner")
		add(true, "--gid-owner", g.String())
	}
	if m.Mark != 0 {
		add(false, "-m", "mark")
		add(m.NotMark, "--mark", fmt.Sprintf("0x%x", m.Mark))
	}
	if m.CTMark != 0 {
		add(false, "-m", "connmark", "--mark", fmt.Sprintf("0x%x", m.CTMark))
	}
	switch m.ConnState {
	case "":
	case "established":
		add(false, "-m", "conntrack", "--ctstate", "RELATED,ESTABLISHED")
	default:
		add(false, "-m", "conntrack", "--ctstate", strings.ToUpper(m.ConnState))
	}
	return w
}

func (a Action) restore(family int) string {
	switch a.Verb {
	case Jump:
		return "-j " + restoreName(a.Chain)
	case Goto:
		return "-g " + restoreName(a.Chain)
	case ToPort:
		return fmt.Sprintf("-j REDIRECT --to-ports %d", a.Port)
	case ToSocket:
		any := "0.0.0.0"
		if family == 6 {
			any = "::"
		}
		return fmt.Sprintf("-j TPROXY --on-port %d --on-ip %s --tproxy-mark 0x%x/0xffffffff", a.Port, any, a.Mark)
	case SetMark:
		return fmt.Sprintf("-j MARK --set-xmark 0x%x/0xffffffff", a.Mark)
	case KeepMark:
		return fmt.Sprintf("-j CONNMARK --set-xmark 0x%x/0xffffffff", a.Mark)
	case SetZone:
		return fmt.Sprintf("-j CT --zone %d", a.Zone)
	case Drop:
		return "-j DROP"
	default:
		return "-j RETURN"
	}
}

// families lists the IP versions a rule set has rules for. A single-family
// plan leaves the other version's tables alone, which is what its guard means.
func (rs *Ruleset) families() []int {
	switch rs.Families {
	case IPv4Only:
		return []int{4}
	case IPv6Only:
		return []int{6}
	}
	return []int{4, 6}
}
