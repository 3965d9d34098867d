package iptables

import "net/netip"

// Ruleset is a plan: what [Apply] programs, [Verify] compares and the Text
// methods print. It is immutable after Plan.
type Ruleset struct {
	// Chains in the order they are created; a chain comes after those it jumps to.
	Chains []Chain
	// Routing delivers marked packets locally; set for TPROXY only.
	Routing *Routing
	// Families is Config.Families.
	Families Families
}

// Chain is a list of rules. One with a Hook is entered by the kernel, one
// without is entered by a jump.
type Chain struct {
	// Name in nftables; iptables uses MECHA_ and the name in capitals.
	Name string
	// Table is the iptables table the chain lives in: "nat", "mangle" or "raw".
	Table string
	// Hook is "prerouting", "output" or "" for a chain that is jumped to.
	Hook  string
	Rules []Rule
}

// Rule does Action to packets that satisfy all of Match. Why is the comment
// the kernel keeps beside it: one sentence, at most [maxComment] bytes.
type Rule struct {
	Match  Match
	Action Action
	Why    string
}

// Match is a conjunction; a zero field matches everything.
type Match struct {
	Family    uint8  // 4 or 6
	TCP       bool   // implied by Ports without UDP
	UDP       bool   // Ports are of UDP
	In, Out   string // interface; a trailing * matches any ending
	Src, Dst  netip.Prefix
	NotDst    bool // Dst must not match
	Ports     PortRange
	NotPorts  bool   // Ports must not match
	SrcPort   uint16 // port of the sender; with UDP only
	UID, GID  *IDRange
	NotGIDs   []IDRange
	Mark      uint32 // SO_MARK of the sending socket, or the mark set by a rule
	NotMark   bool   // Mark must not match
	CTMark    uint32 // mark remembered with the connection
	ConnState string // "", "new", "established" (or related to one) or "invalid"
}

// Verb is what a rule does.
type Verb string

const (
	Return   Verb = "return"
	Drop     Verb = "drop"
	Jump     Verb = "jump"     // to Action.Chain, continue here afterwards
	Goto     Verb = "goto"     // to Action.Chain
	ToPort   Verb = "redirect" // NAT to Action.Port on this host
	ToSocket Verb = "tproxy"   // hand to the listener on Action.Port, mark with Action.Mark, accept
	SetMark  Verb = "mark"     // mark the packet with Action.Mark and continue
	SetZone  Verb = "zone"     // track the packet in conntrack zone Action.Zone and continue; raw only
	KeepMark Verb = "ctmark"   // remember Action.Mark with the connection and continue
)

// Action is what happens to a matching packet.
type Action struct {
	Verb  Verb
	Chain string
	Port  uint16
	Mark  uint32
	Zone  uint16
}

// Routing is policy routing: packets marked Mark use Table, whose only entry
// delivers every destination to this host.
type Routing struct {
	Mark  uint32
	Table uint32
}

const (
	// tableName is the nftables table that holds everything. Deleting it undoes all.
	tableName = "mecha"
	// chainPrefix starts the name of each iptables chain, and only of ours.
	chainPrefix = "MECHA_"
	// maxComment is nftables' own limit for a comment, less the final zero byte.
	maxComment = 127
	// maxRules bounds a plan. A transaction is one netlink message, and without
	// privilege over the host its buffer cannot be made larger than the system
	// default of 208 KB (twice that in the kernel's accounting).
	maxRules = 600
)
