package iptables

import (
	"encoding/binary"
	"net/netip"
	"strings"

	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// Expressions work on one register: load a value, compare, and so on. A
// comparison that fails ends the rule.
const reg = 1

// exprs compiles the rule for the kernel: the match, a counter, the action.
func (r Rule) exprs() []expr.Any {
	e := r.Match.exprs()
	e = append(e, &expr.Counter{})
	return append(e, r.Action.exprs()...)
}

func (m Match) exprs() []expr.Any {
	var e []expr.Any
	switch m.Family {
	case 4:
		e = append(e, protoIs(unix.NFPROTO_IPV4)...)
	case 6:
		e = append(e, protoIs(unix.NFPROTO_IPV6)...)
	}
	if m.In != "" {
		e = append(e, &expr.Meta{Key: expr.MetaKeyIIFNAME, Register: reg}, ifname(m.In))
	}
	if m.Out != "" {
		e = append(e, &expr.Meta{Key: expr.MetaKeyOIFNAME, Register: reg}, ifname(m.Out))
	}
	if m.Src.IsValid() {
		e = append(e, address(m.Src, 12, 8, expr.CmpOpEq)...)
	}
	if m.Dst.IsValid() {
		e = append(e, address(m.Dst, 16, 24, cmpOp(m.NotDst))...)
	}
	if p := m.protocol(); p != "" {
		number := byte(unix.IPPROTO_TCP)
		if p == "udp" {
			number = unix.IPPROTO_UDP
		}
		e = append(e, &expr.Meta{Key: expr.MetaKeyL4PROTO, Register: reg}, equal([]byte{number}))
	}
	if m.SrcPort != 0 {
		e = append(e, &expr.Payload{Base: expr.PayloadBaseTransportHeader, Offset: 0, Len: 2, DestRegister: reg},
			equal(binary.BigEndian.AppendUint16(nil, m.SrcPort)))
	}
	if m.Ports.First != 0 {
		e = append(e, &expr.Payload{Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2, DestRegister: reg},
			between(binary.BigEndian.AppendUint16(nil, m.Ports.First), binary.BigEndian.AppendUint16(nil, m.Ports.Last), m.NotPorts))
	}
	if m.UID != nil {
		e = append(e, owner(expr.MetaKeySKUID, *m.UID, false)...)
	}
	if m.GID != nil {
		e = append(e, owner(expr.MetaKeySKGID, *m.GID, false)...)
	}
	for _, g := range m.NotGIDs {
		e = append(e, owner(expr.MetaKeySKGID, g, true)...)
	}
	if m.Mark != 0 {
		e = append(e, &expr.Meta{Key: expr.MetaKeyMARK, Register: reg},
			&expr.Cmp{Op: cmpOp(m.NotMark), Register: reg, Data: binaryutil.NativeEndian.PutUint32(m.Mark)})
	}
	if m.CTMark != 0 {
		e = append(e, &expr.Ct{Key: expr.CtKeyMARK, Register: reg}, equal(binaryutil.NativeEndian.PutUint32(m.CTMark)))
	}
	if m.ConnState != "" {
		bit := map[string]uint32{
			"new": expr.CtStateBitNEW, "invalid": expr.CtStateBitINVALID,
			"established": expr.CtStateBitESTABLISHED | expr.CtStateBitRELATED,
		}[m.ConnState]
		e = append(e, &expr.Ct{Key: expr.CtKeySTATE, Register: reg},
			&expr.Bitwise{SourceRegister: reg, DestRegister: reg, Len: 4, Mask: binaryutil.NativeEndian.PutUint32(bit), Xor: make([]byte, 4)},
			&expr.Cmp{Op: expr.CmpOpNeq, Register: reg, Data: make([]byte, 4)})
	}
	return e
}

func (a Action) exprs() []expr.Any {
	verdict := func(k expr.VerdictKind) []expr.Any { return []expr.Any{&expr.Verdict{Kind: k, Chain: a.Chain}} }
	port := &expr.Immediate{Register: reg, Data: binary.BigEndian.AppendUint16(nil, a.Port)}
	mark := &expr.Immediate{Register: reg, Data: binaryutil.NativeEndian.PutUint32(a.Mark)}
	setMark := &expr.Meta{Key: expr.MetaKeyMARK, SourceRegister: true, Register: reg}
	switch a.Verb {
	case Drop:
		return verdict(expr.VerdictDrop)
	case Jump:
		return verdict(expr.VerdictJump)
	case Goto:
		return verdict(expr.VerdictGoto)
	case ToPort:
		return []expr.Any{port, &expr.Redir{RegisterProtoMin: reg}}
	case ToSocket:
		return []expr.Any{
			port, &expr.TProxy{Family: unix.NFPROTO_UNSPEC, TableFamily: unix.NFPROTO_INET, RegPort: reg},
			mark, setMark, &expr.Verdict{Kind: expr.VerdictAccept},
		}
	case SetMark:
		return []expr.Any{mark, setMark}
	case SetZone:
		zone := &expr.Immediate{Register: reg, Data: binaryutil.NativeEndian.PutUint16(a.Zone)}
		return []expr.Any{zone, &expr.Ct{Key: expr.CtKeyZONE, SourceRegister: true, Register: reg}}
	case KeepMark:
		return []expr.Any{mark, &expr.Ct{Key: expr.CtKeyMARK, SourceRegister: true, Register: reg}}
	default:
		return verdict(expr.VerdictReturn)
	}
}

func cmpOp(negate bool) expr.CmpOp {
	if negate {
		return expr.CmpOpNeq
	}
	return expr.CmpOpEq
}

func equal(data []byte) *expr.Cmp { return &expr.Cmp{Op: expr.CmpOpEq, Register: reg, Data: data} }

func between(first, last []byte, negate bool) expr.Any {
	if string(first) == string(last) {
		return &expr.Cmp{Op: cmpOp(negate), Register: reg, Data: first}
	}
	return &expr.Range{Op: cmpOp(negate), Register: reg, FromData: first, ToData: last}
}

func protoIs(proto byte) []expr.Any {
	return []expr.Any{&expr.Meta{Key: expr.MetaKeyNFPROTO, Register: reg}, equal([]byte{proto})}
}

// ifname compares the whole name with its padding, or only a prefix for a
// name that ends in *.
func ifname(name string) *expr.Cmp {
	if prefix, ok := strings.CutSuffix(name, "*"); ok {
		return equal([]byte(prefix))
	}
	return equal(append([]byte(name), make([]byte, unix.IFNAMSIZ-len(name))...))
}

// address compares a source or destination; the offset is that of the field
// in the header of each IP version.
func address(p netip.Prefix, offset4, offset6 uint32, op expr.CmpOp) []expr.Any {
	proto, offset := byte(unix.NFPROTO_IPV4), offset4
	if p.Addr().Is6() {
		proto, offset = unix.NFPROTO_IPV6, offset6
	}
	n := uint32(p.Addr().BitLen() / 8)
	e := append(protoIs(proto), &expr.Payload{Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: n, DestRegister: reg})
	if !p.IsSingleIP() {
		mask := make([]byte, n)
		for i := range p.Bits() {
			mask[i/8] |= 0x80 >> (i % 8)
		}
		e = append(e, &expr.Bitwise{SourceRegister: reg, DestRegister: reg, Len: n, Mask: mask, Xor: make([]byte, n)})
	}
	return append(e, &expr.Cmp{Op: op, Register: reg, Data: p.Masked().Addr().AsSlice()})
}

// owner compares the credentials the socket was opened with. A packet without
// a socket matches neither the rule nor its negation.
func owner(key expr.MetaKey, r IDRange, negate bool) []expr.Any {
	load := &expr.Meta{Key: key, Register: reg}
	if r.First == r.Last {
		return []expr.Any{load, &expr.Cmp{Op: cmpOp(negate), Register: reg, Data: binaryutil.NativeEndian.PutUint32(r.First)}}
	}
	// Ranges are compared byte by byte, so the value goes to network order first.
	return []expr.Any{
		load, &expr.Byteorder{SourceRegister: reg, DestRegister: reg, Op: expr.ByteorderHton, Len: 4, Size: 4},
		between(binary.BigEndian.AppendUint32(nil, r.First), binary.BigEndian.AppendUint32(nil, r.Last), negate),
	}
}
