package iptables

import (
	"fmt"
	"strings"
)

// Words describes the plan for a reader who knows no rule language: which
// connections are looked at, in which order, and what happens to them.
func (rs *Ruleset) Words() string {
	var b strings.Builder
	for _, ch := range rs.Chains {
		fmt.Fprintf(&b, "%s\n", ch.title())
		for i, r := range ch.Rules {
			fmt.Fprintf(&b, "  %2d. %s: %s\n      (%s)\n", i+1, r.Match.words(), r.Action.words(), r.Why)
		}
	}
	if r := rs.Routing; r != nil {
		fmt.Fprintf(&b, "routing: packets with mark %d use table %d, which delivers every destination to this pod\n", r.Mark, r.Table)
	}
	return b.String()
}

func (ch Chain) title() string {
	switch ch.Table + " " + ch.Hook {
	case "nat prerouting":
		return ch.Name + ": a connection arrives from outside the pod"
	case "nat output":
		return ch.Name + ": something in the pod opens a connection"
	case "raw prerouting":
		return ch.Name + ": a packet arrives, before its connection is looked up"
	case "raw output":
		return ch.Name + ": a packet leaves a socket in the pod, before its connection is looked up"
	case "mangle prerouting":
		return ch.Name + ": a packet arrives, before anything else looks at it"
	case "mangle output":
		return ch.Name + ": a packet leaves a socket in the pod, before it is routed"
	}
	return ch.Name + ": (used by the rules that name it)"
}

func (m Match) words() string {
	var w []string
	add := func(format string, args ...any) { w = append(w, fmt.Sprintf(format, args...)) }
	neg := func(n bool) string {
		if n {
			return "anything but "
		}
		return ""
	}
	if m.Family != 0 {
		add("IPv%d", m.Family)
	}
	if m.In != "" {
		add("arriving on %s", m.In)
	}
	if m.Out != "" {
		add("leaving on %s", m.Out)
	}
	if m.Src.IsValid() {
		add("from %s", nftPrefix(m.Src))
	}
	if m.Dst.IsValid() {
		add("to %s%s", neg(m.NotDst), nftPrefix(m.Dst))
	}
	udp := ""
	if m.UDP {
		udp = "UDP "
	}
	if m.SrcPort != 0 {
		add("from %sport %d", udp, m.SrcPort)
	}
	if m.Ports.First != 0 {
		add("to %s%sport %s", neg(m.NotPorts), udp, m.Ports)
	}
	if m.UID != nil {
		add("opened by user %s", m.UID)
	}
	if m.GID != nil {
		add("opened by group %s", m.GID)
	}
	for _, g := range m.NotGIDs {
		add("not opened by group %s", g)
	}
	if m.Mark != 0 {
		add("with %smark %d", neg(m.NotMark), m.Mark)
	}
	if m.CTMark != 0 {
		add("of a connection remembered with mark %d", m.CTMark)
	}
	switch m.ConnState {
	case "new":
		add("opening a connection")
	case "established":
		add("of a living connection")
	case "invalid":
		add("of no known connection")
	}
	switch {
	case len(w) == 0 && m.TCP:
		return "any TCP"
	case len(w) == 0:
		return "everything"
	}
	return strings.Join(w, ", ")
}

func (a Action) words() string {
	switch a.Verb {
	case Return:
		return "leave it alone"
	case Drop:
		return "drop it"
	case Jump:
		return "ask " + a.Chain + ", then go on here"
	case Goto:
		return "continue with " + a.Chain
	case ToPort:
		return fmt.Sprintf("send it to port %d of this pod", a.Port)
	case ToSocket:
		return fmt.Sprintf("give it unchanged to the listener on port %d", a.Port)
	case SetZone:
		return fmt.Sprintf("track it in zone %d", a.Zone)
	case SetMark:
		return fmt.Sprintf("mark it %d", a.Mark)
	default:
		return fmt.Sprintf("remember mark %d with its connection", a.Mark)
	}
}
