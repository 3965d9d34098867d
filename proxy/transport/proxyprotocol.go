package transport

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"time"

	"github.com/mecha-mesh/mecha/proxy/buffer"
	"github.com/mecha-mesh/mecha/proxy/meta"
	"github.com/mecha-mesh/mecha/proxy/netio"
)

// ProxyProtocol tells a host in front of everything else for whom the connection is
// made (envoy.transport_sockets.upstream_proxy_protocol; the PROXY protocol of HAProxy).
// Connections are shared only by those who come from the same address and port.
type ProxyProtocol struct {
	V2    bool
	Inner Socket // what follows the header
	// PassAll passes the TLVs of the downstream connection on, otherwise those of the
	// types in Pass (pass_through_tlvs).
	PassAll bool
	Pass    []byte
	Added   []TLV // added_tlvs, which win over those that are passed on
}

// Server implements Socket.
func (*ProxyProtocol) Server(context.Context, *netio.Conn, *meta.Conn, *TLSStats) (*netio.Conn, error) {
	return nil, errors.New("upstream_proxy_protocol is for upstream connections")
}

// Client implements Socket.
func (p *ProxyProtocol) Client(ctx context.Context, raw *netio.Conn, to *Peer) (*netio.Conn, error) {
	if to == nil {
		to = &Peer{}
	}
	if deadline, ok := ctx.Deadline(); ok {
		_ = raw.SetWriteDeadline(deadline) // a socket that is gone fails below
	}
	var b buffer.Buf
	b.Append(p.header(raw, to))
	err := raw.WriteBuf(&b)
	if err == nil {
		err = raw.SetWriteDeadline(time.Time{})
	}
	if err != nil {
		_ = raw.Close() // it is of no use
		return nil, fmt.Errorf("proxy protocol: %w", err)
	}
	return p.Inner.Client(ctx, raw, to)
}

// Key implements Socket.
func (p *ProxyProtocol) Key() string {
	return fmt.Sprintf("proxy_protocol v2=%t all=%t pass=%x added=%v inner=%s", p.V2, p.PassAll, p.Pass, p.Added, p.Inner.Key())
}

// PoolKey implements Bound.
func (p *ProxyProtocol) PoolKey(to Peer) string {
	key := to.Source.String() + " " + to.Dest.String()
	for _, t := range p.tlvs(&to) {
		key += " " + strconv.Itoa(int(t.Type)) + "=" + string(t.Value)
	}
	if b, ok := p.Inner.(Bound); ok {
		key += " " + b.PoolKey(to)
	}
	return key
}

func (p *ProxyProtocol) header(raw *netio.Conn, to *Peer) []byte {
	if p.V2 {
		return appendV2(nil, to.Source, to.Dest, p.tlvs(to))
	}
	if !to.Source.Known() { // nobody in particular: the connection speaks for itself
		return appendV1(nil, meta.AddrOf(raw.LocalAddr()), meta.AddrOf(raw.RemoteAddr()))
	}
	return appendV1(nil, to.Source, to.Dest)
}

// tlvs returns what is sent: the host's own, the configured ones, and last those that are
// passed on, of types that were not there before.
func (p *ProxyProtocol) tlvs(to *Peer) []TLV {
	var all []TLV
	add := func(list []TLV, wanted func(byte) bool) {
		from := len(all)
		for _, t := range list {
			if (wanted == nil || wanted(t.Type)) && !slices.ContainsFunc(all[:from], func(o TLV) bool { return o.Type == t.Type }) {
				all = append(all, t)
			}
		}
	}
	add(to.HostTLVs, nil)
	add(p.Added, nil)
	pass := func(t byte) bool { return p.PassAll || slices.Contains(p.Pass, t) }
	if to.Options.TLVs != nil {
		add(to.Options.TLVs, pass)
	} else {
		add(to.TLVs, pass)
	}
	return all
}

// AppendProxyHeader appends a PROXY protocol header without extensions, for whoever
// sends it in front of a raw stream.
func AppendProxyHeader(dst []byte, v2 bool, from, to meta.Addr) []byte {
	if v2 {
		return appendV2(dst, from, to, nil)
	}
	return appendV1(dst, from, to)
}

// appendV1 appends a header of version 1, which is text.
func appendV1(dst []byte, from, to meta.Addr) []byte {
	a, b := from.AddrPort, to.AddrPort
	if !a.IsValid() || !b.IsValid() {
		return append(dst, "PROXY UNKNOWN\r\n"...)
	}
	src, to6, v6 := sameFamily(a.Addr(), b.Addr())
	family := "TCP4"
	if v6 {
		family = "TCP6"
	}
	return fmt.Appendf(dst, "PROXY %s %s %s %d %d\r\n", family, src, to6, a.Port(), b.Port())
}

// sameFamily makes both addresses IPv6 if one is.
func sameFamily(a, b netip.Addr) (netip.Addr, netip.Addr, bool) {
	a, b = a.Unmap().WithZone(""), b.Unmap().WithZone("")
	if a.Is4() && b.Is4() {
		return a, b, false
	}
	return netip.AddrFrom16(a.As16()), netip.AddrFrom16(b.As16()), true
}

// The fixed parts of version 2.
const (
	signature = "\r\n\r\n\x00\r\nQUIT\n"
	localV2   = 0x20 // version 2, on nobody's behalf
	proxyV2   = 0x21
	tcp4      = 0x11
	tcp6      = 0x21
)

// appendV2 appends a header of version 2. TLVs that do not fit into it are left out.
func appendV2(dst []byte, from, to meta.Addr, tlvs []TLV) []byte {
	a, b := from.AddrPort, to.AddrPort
	if !a.IsValid() || !b.IsValid() {
		return append(append(dst, signature...), localV2, 0, 0, 0)
	}
	src, dest, v6 := sameFamily(a.Addr(), b.Addr())
	family := byte(tcp4)
	if v6 {
		family = tcp6
	}
	dst = append(append(dst, signature...), proxyV2, family, 0, 0)
	start := len(dst)
	dst = append(append(dst, src.AsSlice()...), dest.AsSlice()...)
	dst = binary.BigEndian.AppendUint16(dst, a.Port())
	dst = binary.BigEndian.AppendUint16(dst, b.Port())
	for _, t := range tlvs {
		if len(dst)-start+3+len(t.Value) > 1<<16-1 {
			continue
		}
		dst = append(dst, t.Type)
		dst = binary.BigEndian.AppendUint16(dst, uint16(len(t.Value)))
		dst = append(dst, t.Value...)
	}
	binary.BigEndian.PutUint16(dst[start-2:], uint16(len(dst)-start))
	return dst
}
