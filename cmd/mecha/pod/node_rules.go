package pod

import (
	"encoding/binary"
	"fmt"
	"net/netip"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/google/nftables/userdata"
	"golang.org/x/sys/unix"
)

// divertUplink sends to the uplink's listener what leaves the node's network:
// TCP to the address that stands for the host, and to any address outside. It
// applies to pods (prerouting) and to processes of the node (output).
func divertUplink(n network) error {
	c, err := nftables.New(nftables.AsLasting())
	if err != nil {
		return fmt.Errorf("open nftables: %w", err)
	}
	defer c.CloseLasting() //nolint:errcheck // the transaction is over
	table := c.AddTable(&nftables.Table{Name: "mecha_node", Family: nftables.TableFamilyINet})
	host4, host6 := n.host()
	for _, ch := range []struct {
		name    string
		hook    *nftables.ChainHook
		devices []expr.MetaKey
	}{
		{"from_pods", nftables.ChainHookPrerouting, []expr.MetaKey{expr.MetaKeyIIFNAME}},
		{"from_node", nftables.ChainHookOutput, []expr.MetaKey{expr.MetaKeyOIFNAME}},
	} {
		chain := c.AddChain(&nftables.Chain{
			Name: ch.name, Table: table, Type: nftables.ChainTypeNAT, Hooknum: ch.hook, Priority: nftables.ChainPriorityNATDest,
		})
		add := func(why string, match ...expr.Any) {
			c.AddRule(&nftables.Rule{
				Table: table, Chain: chain, UserData: userdata.AppendString(nil, userdata.TypeComment, why),
				Exprs: append(match,
					&expr.Counter{},
					&expr.Immediate{Register: 1, Data: binary.BigEndian.AppendUint16(nil, uplinkPort)},
					&expr.Redir{RegisterProtoMin: 1}),
			})
		}
		tcp := []expr.Any{&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1}, &expr.Cmp{Register: 1, Data: []byte{unix.IPPROTO_TCP}}}
		for _, p := range []netip.Prefix{netip.PrefixFrom(host4, 32), netip.PrefixFrom(host6, 128)} {
			add("stands for the host", append(destination(p, expr.CmpOpEq), tcp...)...)
		}
		device := []expr.Any{
			&expr.Meta{Key: ch.devices[0], Register: 1},
			&expr.Cmp{Register: 1, Data: append([]byte(bridgeName), make([]byte, unix.IFNAMSIZ-len(bridgeName))...)},
		}
		for _, p := range []netip.Prefix{n.V4, n.V6} {
			match := append(append([]expr.Any{}, device...), destination(p, expr.CmpOpNeq)...)
			if p.Addr().Is6() {
				// Neighbours talk by link-local addresses too.
				match = append(match, destination(netip.MustParsePrefix("fe80::/10"), expr.CmpOpNeq)...)
			}
			add("outside of the node", append(match, tcp...)...)
		}
	}
	if err := c.Flush(); err != nil {
		return fmt.Errorf("nftables: %w", err)
	}
	return nil
}

func destination(p netip.Prefix, op expr.CmpOp) []expr.Any {
	proto, offset := byte(unix.NFPROTO_IPV4), uint32(16)
	if p.Addr().Is6() {
		proto, offset = unix.NFPROTO_IPV6, 24
	}
	n := uint32(p.Addr().BitLen() / 8)
	mask := make([]byte, n)
	for i := range p.Bits() {
		mask[i/8] |= 0x80 >> (i % 8)
	}
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyNFPROTO, Register: 1}, &expr.Cmp{Register: 1, Data: []byte{proto}},
		&expr.Payload{Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: n, DestRegister: 1},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: n, Mask: mask, Xor: make([]byte, n)},
		&expr.Cmp{Op: op, Register: 1, Data: p.Masked().Addr().AsSlice()},
	}
}
