package tcpproxy

import (
	"slices"

	"github.com/mecha-mesh/mecha/proxy/accesslog"
	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/transport"
)

// TLV is a TLV for PROXY protocol, whose value may depend on the connection.
type TLV struct {
	Type   byte
	Value  []byte
	Format *accesslog.Format // in place of Value; nil is none
}

// TLVMerge says what becomes of the TLVs of a client that came with a PROXY protocol
// header of its own (proxy_protocol_tlv_merge_policy).
type TLVMerge uint8

// The policies.
const (
	AddIfAbsent     TLVMerge = iota // the client's alone are sent
	OverwriteByType                 // ours go before the client's of the same type
	AppendAll                       // the client's and ours
)

// tlvs returns what is sent in place of the TLVs of the client, in Envoy's order; nil
// leaves those.
func (s *session) tlvs(c *filter.Conn) []transport.TLV {
	var own, theirs []transport.TLV
	if said := c.Meta.Proxied; said != nil {
		if s.c.TLVMerge == AddIfAbsent {
			return nil
		}
		for _, t := range said.TLVs {
			if s.c.TLVMerge == AppendAll || !slices.ContainsFunc(s.c.TLVs, func(o TLV) bool { return o.Type == t.Type }) {
				theirs = append(theirs, transport.TLV(t))
			}
		}
	}
	for _, t := range s.c.TLVs {
		v := t.Value
		if t.Format != nil {
			v = t.Format.Append(nil, c.LogEntry())
		}
		own = append(own, transport.TLV{Type: t.Type, Value: v})
	}
	if s.c.TLVMerge == OverwriteByType {
		return append(own, theirs...)
	}
	return append(theirs, own...)
}
