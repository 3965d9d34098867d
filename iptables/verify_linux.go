package iptables

import (
	"fmt"
	"reflect"
	"strings"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/google/nftables/userdata"
)

// verifyNFT compares the plan with the kernel's table. found says whether the
// table exists at all.
func verifyNFT(rs *Ruleset) (diff []string, found bool, err error) {
	c, err := nftConn()
	if err != nil {
		return nil, false, err
	}
	defer c.CloseLasting() //nolint:errcheck // only read from
	tables, err := c.ListTablesOfFamily(nftables.TableFamilyINet)
	if err != nil {
		return nil, false, fmt.Errorf("iptables: list nftables tables: %w", err)
	}
	var table *nftables.Table
	for _, t := range tables {
		if t.Name == tableName {
			table = t
		}
	}
	if table == nil {
		return nil, false, nil
	}
	chains, err := c.ListChainsOfTableFamily(nftables.TableFamilyINet)
	if err != nil {
		return nil, true, fmt.Errorf("iptables: list nftables chains: %w", err)
	}
	have := make(map[string]*nftables.Chain)
	for _, ch := range chains {
		if ch.Table.Name == tableName {
			have[ch.Name] = ch
		}
	}
	for _, want := range rs.Chains {
		got := have[want.Name]
		delete(have, want.Name)
		if got == nil {
			diff = append(diff, fmt.Sprintf("%s: chain missing", want.Name))
			continue
		}
		if !sameHook(want.kernel(table), got) {
			diff = append(diff, fmt.Sprintf("%s: chain has another type, hook, priority or policy", want.Name))
		}
		rules, err := c.GetRules(table, got)
		if err != nil {
			return nil, true, fmt.Errorf("iptables: list rules of %s: %w", want.Name, err)
		}
		diff = append(diff, diffRules(want, rules)...)
	}
	for name := range have {
		diff = append(diff, fmt.Sprintf("%s: chain is not in the plan", name))
	}
	return diff, true, nil
}

func sameHook(want, got *nftables.Chain) bool {
	if want.Hooknum == nil || got.Hooknum == nil {
		return want.Hooknum == nil && got.Hooknum == nil
	}
	return want.Type == got.Type && *want.Hooknum == *got.Hooknum && *want.Priority == *got.Priority &&
		(got.Policy == nil || *got.Policy == *want.Policy)
}

// diffRules leaves out what is the same at both ends of a chain, so that one
// added or lost rule is one line.
func diffRules(want Chain, got []*nftables.Rule) []string {
	same := func(i, k int) bool {
		return reflect.DeepEqual(comparable(want.Rules[i].exprs()), comparable(got[k].Exprs))
	}
	first, wantEnd, gotEnd := 0, len(want.Rules), len(got)
	for first < min(wantEnd, gotEnd) && same(first, first) {
		first++
	}
	for wantEnd > first && gotEnd > first && same(wantEnd-1, gotEnd-1) {
		wantEnd--
		gotEnd--
	}
	var diff []string
	for i := first; i < max(wantEnd, gotEnd); i++ {
		switch {
		case i >= gotEnd:
			diff = append(diff, fmt.Sprintf("%s: rule %d missing: %s", want.Name, i+1, want.Rules[i].nft()))
		case i >= wantEnd:
			diff = append(diff, fmt.Sprintf("%s: rule %d is not in the plan (comment %q)", want.Name, i+1, comment(got[i])))
		case !same(i, i):
			diff = append(diff, fmt.Sprintf("%s: rule %d was changed (its comment is now %q); planned: %s", want.Name, i+1, comment(got[i]), want.Rules[i].nft()))
		}
	}
	return diff
}

func comment(r *nftables.Rule) string {
	s, _ := userdata.GetString(r.UserData, userdata.TypeComment)
	return strings.TrimRight(s, "\x00")
}

// comparable removes from expressions what differs between writing and reading
// them back: counts, and what the library does not decode (tproxy and byte
// order; the port and mark of the one and the range of the other are compared).
func comparable(exprs []expr.Any) []expr.Any {
	var out []expr.Any
	for _, e := range exprs {
		switch e := e.(type) {
		case *expr.TProxy, *expr.Byteorder:
			continue
		case *expr.Counter:
			out = append(out, &expr.Counter{})
		case *expr.Ct:
			c := *e
			c.Register, c.SourceRegister = 0, false
			out = append(out, &c)
		case *expr.Redir:
			out = append(out, &expr.Redir{RegisterProtoMin: e.RegisterProtoMin})
		default:
			out = append(out, e)
		}
	}
	return out
}
