package grpclog

import (
	"encoding/json"
	"maps"
	"math/bits"
	"slices"

	"github.com/mecha-mesh/mecha/proxy/accesslog"
	"github.com/mecha-mesh/mecha/proxy/header"
	"github.com/mecha-mesh/mecha/proxy/meta"
	"github.com/mecha-mesh/mecha/proxy/trace"
	"github.com/mecha-mesh/mecha/proxy/wire"
)

// appendCommon appends AccessLogCommon.
func (f *Format) appendCommon(b []byte, e *accesslog.Entry) []byte {
	s, c := e.Stream, e.Conn
	if c != nil {
		b = address(b, 2, c.Remote)
		b = address(b, 3, c.Local)
		b = appendTLS(b, 4, c)
	}
	b, start := wire.Begin(b, 5)
	b = wire.Int(b, 1, s.Start.Unix())
	b = wire.End(wire.Int(b, 2, int64(s.Start.Nanosecond())), start)
	b = length(b, 6, s.RequestEnd)
	b = length(b, 7, s.UpstreamStart)
	b = length(b, 8, s.UpstreamEnd)
	b = length(b, 9, s.ResponseStart)
	if s.ResponseStart > 0 { // an answer of our own ends, too
		b = length(b, 10, s.ResponseEnd)
	}
	b = length(b, 11, s.DownstreamStart)
	if e.Request != nil {
		b = length(b, 12, s.End)
	}
	b = address(b, 13, s.UpstreamHost)
	b = address(b, 14, s.UpstreamLocal)
	b = text(b, 15, s.Cluster)
	b = appendFlags(b, 16, s.Flags)
	b = appendMetadata(b, 17, e.Metadata)
	b = text(b, 18, s.UpstreamFailure)
	b = text(b, 19, s.RouteName)
	if c != nil {
		b = address(b, 20, c.Direct)
	}
	b = f.appendState(b, 21, e)
	for i := range f.Tags {
		if v := f.Tags[i].Text(e); v != "" {
			b = pair(b, 22, f.Tags[i].Name, v)
		}
	}
	b = length(b, 23, s.End)
	b = wire.Int(b, 24, int64(s.Attempts))
	if c != nil {
		b = text(b, 25, c.Termination)
	}
	b = text(b, 26, streamID(e))
	b = wire.Bool(b, 27, s.End == 0)
	if c != nil {
		b = text(b, 28, c.TransportFailure)
	}
	b = wire.Int(b, 29, s.HeaderSent+s.BytesSent)
	b = wire.Int(b, 30, s.HeaderReceived+s.BytesReceived)
	b = wire.Int(b, 31, s.UpstreamSent)
	b = wire.Int(b, 32, s.UpstreamReceived)
	return wire.Int(b, 33, int64(e.Type))
}

func streamID(e *accesslog.Entry) string {
	if e.StreamID == "" && e.Request != nil {
		return e.Request.Value(header.XRequestId)
	}
	return e.StreamID
}

// appendFlags appends ResponseFlags: most have their place in the order of Envoy's.
func appendFlags(b []byte, field int, flags meta.Flag) []byte {
	if flags == 0 {
		return b
	}
	b, mark := wire.Begin(b, field)
	for rest := flags; rest != 0; rest &= rest - 1 {
		switch one := meta.Flag(1) << bits.TrailingZeros32(uint32(rest)); {
		case one == meta.UnauthorizedExternalService:
			b = append(b, 13<<3|2, 2, 1<<3, 1) // unauthorized_details { reason: EXTERNAL_SERVICE }
		case one <= meta.DNSResolutionFailed:
			b = wire.Bool(b, bits.TrailingZeros32(uint32(rest))+1, true)
		case one == meta.DownstreamRemoteReset:
			b = wire.Bool(b, 28, true)
		}
	}
	return wire.End(b, mark)
}

// appendTLS appends TLSProperties of a connection that has a TLS session.
func appendTLS(b []byte, field int, c *meta.Conn) []byte {
	t := c.TLS
	if t == nil {
		return b
	}
	b, mark := wire.Begin(b, field)
	for i, v := range []string{"TLSv1", "TLSv1.1", "TLSv1.2", "TLSv1.3"} {
		if t.Version == v {
			b = wire.Varint(b, 1, uint64(i+1))
		}
	}
	if t.CipherID != 0 {
		b = number(b, 2, uint64(t.CipherID))
	}
	b = text(b, 3, c.ServerName)
	b = appendCertificate(b, 4, t.LocalDescribed())
	b = appendCertificate(b, 5, t.PeerDescribed())
	return wire.End(text(b, 6, t.SessionID), mark)
}

func appendCertificate(b []byte, field int, d *meta.Described) []byte {
	if d == nil {
		return b
	}
	b, mark := wire.Begin(b, field)
	for i := range d.Names {
		switch n := &d.Names[i]; n.Kind {
		case meta.URIName:
			b = appendAltName(b, 1, n.Text)
		case meta.DNSName:
			b = appendAltName(b, 2, n.Text)
		}
	}
	b = text(b, 2, d.Subject)
	return wire.End(text(b, 3, d.Issuer), mark)
}

func appendAltName(b []byte, kind int, name string) []byte {
	b, mark := wire.Begin(b, 1)
	return wire.End(text(b, kind, name), mark)
}

// appendMetadata appends dynamic metadata (envoy.config.core.v3.Metadata).
func appendMetadata(b []byte, field int, m *meta.Metadata) []byte {
	if m == nil || m.Len() == 0 {
		return b
	}
	b, mark := wire.Begin(b, field)
	all := m.Fields()
	for _, name := range slices.Sorted(maps.Keys(all)) {
		var one, fields int
		b, one = wire.Begin(b, 1)
		b = wire.Bytes(b, 1, name)
		b, fields = wire.Begin(b, 2)
		b = wire.End(wire.End(appendFields(b, all[name]), fields), one)
	}
	return wire.End(b, mark)
}

// appendFields appends the fields of a google.protobuf.Struct.
func appendFields(b []byte, m map[string]any) []byte {
	for _, key := range slices.Sorted(maps.Keys(m)) {
		var one, value int
		b, one = wire.Begin(b, 1)
		b = text(b, 1, key)
		b, value = wire.Begin(b, 2)
		b = wire.End(wire.End(appendValue(b, m[key]), value), one)
	}
	return b
}

// appendValue appends the alternative of a google.protobuf.Value.
func appendValue(b []byte, v any) []byte {
	switch v := v.(type) {
	case nil:
		return wire.Varint(b, 1, 0)
	case float64:
		return wire.Double(b, 2, v)
	case string:
		return wire.Bytes(b, 3, trace.Valid(v))
	case bool:
		n := uint64(0)
		if v {
			n = 1
		}
		return wire.Varint(b, 4, n)
	case map[string]any:
		b, mark := wire.Begin(b, 5)
		return wire.End(appendFields(b, v), mark)
	case []any:
		b, mark := wire.Begin(b, 6)
		for _, item := range v {
			var one int
			b, one = wire.Begin(b, 1)
			b = wire.End(appendValue(b, item), one)
		}
		return wire.End(b, mark)
	}
	return wire.Varint(b, 1, 0)
}

// The types of an object of the filter state: a text, or an object with parts.
const (
	stringValue = "type.googleapis.com/google.protobuf.StringValue"
	structValue = "type.googleapis.com/google.protobuf.Struct"
)

// appendState appends the objects of the filter state that are asked for, each as an Any.
func (f *Format) appendState(b []byte, field int, e *accesslog.Entry) []byte {
	if e.Lookup == nil {
		return b
	}
	for _, key := range f.FilterState {
		raw, ok := e.Lookup.AppendValue(nil, "FILTER_STATE", key, true)
		if !ok {
			continue
		}
		var v any
		if json.Unmarshal(raw, &v) != nil {
			continue
		}
		b = appendObject(b, field, key, v)
	}
	return b
}

func appendObject(b []byte, field int, key string, v any) []byte {
	b, one := wire.Begin(b, field)
	b = wire.Bytes(b, 1, key)
	b, object := wire.Begin(b, 2)
	var value int
	switch v := v.(type) {
	case map[string]any:
		b = wire.Bytes(b, 1, structValue)
		b, value = wire.Begin(b, 2)
		b = appendFields(b, v)
	case string:
		b = wire.Bytes(b, 1, stringValue)
		b, value = wire.Begin(b, 2)
		b = text(b, 1, v)
	default:
		b = wire.Bytes(b, 1, stringValue)
		b, value = wire.Begin(b, 2)
		raw, _ := json.Marshal(v) // it came from there
		b = wire.Bytes(b, 1, raw)
	}
	return wire.End(wire.End(wire.End(b, value), object), one)
}
