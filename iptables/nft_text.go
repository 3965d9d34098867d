package iptables

import (
	"fmt"
	"net/netip"
	"strings"
)

// NFT renders the plan as a file for "nft -f": it replaces the table in one
// transaction, as Apply does over netlink.
func (rs *Ruleset) NFT() string {
	var b strings.Builder
	fmt.Fprintf(&b, "table inet %s\ndelete table inet %s\ntable inet %s {\n", tableName, tableName, tableName)
	for i, ch := range rs.Chains {
		if i > 0 {
			b.WriteByte('\n')
		}
		fmt.Fprintf(&b, "\tchain %s {\n", ch.Name)
		if ch.Hook != "" {
			typ, prio := ch.nftType()
			fmt.Fprintf(&b, "\t\ttype %s hook %s priority %d; policy accept;\n", typ, ch.Hook, prio)
		}
		for _, r := range ch.Rules {
			fmt.Fprintf(&b, "\t\t%s\n", r.nft())
		}
		b.WriteString("\t}\n")
	}
	b.WriteString("}\n")
	if r := rs.Routing; r != nil {
		b.WriteString("# and, for the packets that tproxy marks:\n")
		for _, fam := range rs.routingFamilies() {
			fmt.Fprintf(&b, "#   ip %s rule add fwmark %d lookup %d\n#   ip %s route add local default dev lo table %d\n", fam, r.Mark, r.Table, fam, r.Table)
		}
	}
	return b.String()
}

func (rs *Ruleset) routingFamilies() []string {
	var out []string
	if rs.Families != IPv6Only {
		out = append(out, "-4")
	}
	if rs.Families != IPv4Only {
		out = append(out, "-6")
	}
	return out
}

// nftType gives a base chain's type and priority: where iptables' table of the
// same name sits. Changing a mark on output has to route again: type route.
func (ch Chain) nftType() (typ string, priority int) {
	switch {
	case ch.Table == "nat":
		return "nat", -100
	case ch.Table == "raw":
		return "filter", -300 // before connection tracking, at -200
	case ch.Hook == "output":
		return "route", -150
	default:
		return "filter", -150
	}
}

func (r Rule) nft() string {
	w := append(r.Match.nft(), "counter", r.Action.nft(), fmt.Sprintf("comment %q", r.Why))
	return strings.Join(w, " ")
}

func (m Match) nft() []string {
	var w []string
	add := func(format string, args ...any) { w = append(w, fmt.Sprintf(format, args...)) }
	switch m.Family {
	case 4:
		add("meta nfproto ipv4")
	case 6:
		add("meta nfproto ipv6")
	}
	if m.In != "" {
		add("iifname %q", m.In)
	}
	if m.Out != "" {
		add("oifname %q", m.Out)
	}
	if m.Src.IsValid() {
		add("%s saddr %s", nftFamily(m.Src), nftPrefix(m.Src))
	}
	if m.Dst.IsValid() {
		add("%s daddr %s%s", nftFamily(m.Dst), not(m.NotDst), nftPrefix(m.Dst))
	}
	switch p := m.protocol(); {
	case m.Ports.First != 0:
		add("%s dport %s%s", p, not(m.NotPorts), m.Ports)
	case m.SrcPort != 0:
		add("%s sport %d", p, m.SrcPort)
	case p != "":
		add("meta l4proto %s", p)
	}
	if m.UID != nil {
		add("meta skuid %s", m.UID)
	}
	if m.GID != nil {
		add("meta skgid %s", m.GID)
	}
	for _, g := range m.NotGIDs {
		add("meta skgid != %s", g)
	}
	if m.Mark != 0 {
		add("meta mark %s0x%08x", not(m.NotMark), m.Mark)
	}
	if m.CTMark != 0 {
		add("ct mark 0x%08x", m.CTMark)
	}
	switch m.ConnState {
	case "":
	case "established":
		add("ct state established,related")
	default:
		add("ct state %s", m.ConnState)
	}
	return w
}

func not(negate bool) string {
	if negate {
		return "!= "
	}
	return ""
}

func nftFamily(p netip.Prefix) string {
	if p.Addr().Is4() {
		return "ip"
	}
	return "ip6"
}

func nftPrefix(p netip.Prefix) string {
	if p.IsSingleIP() {
		return p.Addr().String()
	}
	return p.String()
}

func (a Action) nft() string {
	switch a.Verb {
	case Jump, Goto:
		return string(a.Verb) + " " + a.Chain
	case ToPort:
		return fmt.Sprintf("redirect to :%d", a.Port)
	case ToSocket:
		return fmt.Sprintf("tproxy to :%d meta mark set 0x%08x accept", a.Port, a.Mark)
	case SetMark:
		return fmt.Sprintf("meta mark set 0x%08x", a.Mark)
	case SetZone:
		return fmt.Sprintf("ct zone set %d", a.Zone)
	case KeepMark:
		return fmt.Sprintf("ct mark set 0x%08x", a.Mark)
	default:
		return string(a.Verb)
	}
}
