// Package grpclog writes entries of access logs as the gRPC access log service wants them
// (envoy.data.accesslog.v3).
//
// How they are sent is in proxy/export.
package grpclog

import (
	"time"

	"github.com/mecha-mesh/mecha/proxy/accesslog"
	"github.com/mecha-mesh/mecha/proxy/header"
	"github.com/mecha-mesh/mecha/proxy/meta"
	"github.com/mecha-mesh/mecha/proxy/trace"
	"github.com/mecha-mesh/mecha/proxy/wire"
)

// Format says what an entry tells beside what every entry does: plain, validated, immutable
// (HttpGrpcAccessLogConfig, TcpGrpcAccessLogConfig).
type Format struct {
	TCP                                               bool     // entries are of connections
	RequestHeaders, ResponseHeaders, ResponseTrailers []string // additional ones, lower case
	FilterState                                       []string
	Tags                                              []trace.Tag
}

// Append appends an entry as the only field of its list.
func (f *Format) Append(b []byte, e *accesslog.Entry) []byte {
	b, entry := wire.Begin(b, 1)
	b, common := wire.Begin(b, 1)
	b = wire.End(f.appendCommon(b, e), common)
	s := e.Stream
	if f.TCP {
		b, conn := wire.Begin(b, 2)
		b = wire.Int(b, 1, s.BytesReceived)
		return wire.End(wire.End(wire.Int(b, 2, s.BytesSent), conn), entry)
	}
	b = wire.Int(b, 2, int64(s.Protocol)) // the numbers are the same
	b, request := wire.Begin(b, 3)
	b = wire.End(f.appendRequest(b, e), request)
	b, response := wire.Begin(b, 4)
	return wire.End(wire.End(f.appendResponse(b, e), response), entry)
}

// methods are the names of RequestMethod, from 1.
var methods = [...]string{"GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"}

func (f *Format) appendRequest(b []byte, e *accesslog.Entry) []byte {
	s, m := e.Stream, e.Request
	if m == nil {
		m = &header.Map{}
	}
	for i, name := range methods {
		if m.Value(header.Method) == name {
			b = wire.Varint(b, 1, uint64(i+1))
		}
	}
	b = text(b, 2, m.Value(header.Scheme))
	b = text(b, 3, m.Value(header.Authority))
	b = text(b, 5, m.Value(header.Path))
	b = text(b, 6, m.Value(header.UserAgent))
	b = text(b, 7, m.Get("referer"))
	b = text(b, 8, m.Value(header.XForwardedFor))
	b = text(b, 9, m.Value(header.XRequestId))
	b = text(b, 10, m.Value(header.XEnvoyOriginalPath))
	b = wire.Int(b, 11, int64(m.Bytes()))
	b = wire.Int(b, 12, s.BytesReceived)
	b = pairs(b, 13, m, f.RequestHeaders)
	return wire.Int(b, 15, s.HeaderReceived)
}

func (f *Format) appendResponse(b []byte, e *accesslog.Entry) []byte {
	s := e.Stream
	if s.Code != 0 {
		b = number(b, 1, uint64(s.Code))
	}
	if e.Response != nil {
		b = wire.Int(b, 2, int64(e.Response.Bytes()))
	}
	b = wire.Int(b, 3, s.BytesSent)
	b = pairs(b, 4, e.Response, f.ResponseHeaders)
	b = pairs(b, 5, e.Trailers, f.ResponseTrailers)
	b = text(b, 6, s.Details)
	return wire.Int(b, 8, s.HeaderSent)
}

// number appends a UInt32Value.
func number(b []byte, field int, v uint64) []byte {
	b, mark := wire.Begin(b, field)
	return wire.End(wire.Int(b, 1, int64(v)), mark)
}

// text appends a text that need not be UTF-8.
func text(b []byte, field int, v string) []byte { return wire.Text(b, field, trace.Valid(v)) }

// pair appends an entry of a map.
func pair(b []byte, field int, key, value string) []byte {
	b, mark := wire.Begin(b, field)
	return wire.End(wire.Bytes(wire.Bytes(b, 1, key), 2, trace.Valid(value)), mark)
}

// pairs appends the fields of a message that are asked for, several of a name as one.
func pairs(b []byte, field int, m *header.Map, names []string) []byte {
	if m == nil {
		return b
	}
	for _, name := range names {
		value, found := "", false
		for v := range m.Values(name) {
			if found {
				value += "," + v
			} else {
				value, found = v, true
			}
		}
		if found {
			b = pair(b, field, name, value)
		}
	}
	return b
}

// length appends a google.protobuf.Duration; zero is a phase that did not happen.
func length(b []byte, field int, d time.Duration) []byte {
	if d <= 0 {
		return b
	}
	b, mark := wire.Begin(b, field)
	b = wire.Int(b, 1, int64(d/time.Second))
	return wire.End(wire.Int(b, 2, int64(d%time.Second)), mark)
}

// address appends an envoy.config.core.v3.Address; an unknown one is left out.
func address(b []byte, field int, a meta.Addr) []byte {
	if !a.Known() {
		return b
	}
	b, mark := wire.Begin(b, field)
	if a.AddrPort.IsValid() {
		var socket int
		b, socket = wire.Begin(b, 1)
		b = wire.Bytes(b, 2, a.Addr().Unmap().String())
		b = wire.End(wire.Varint(b, 3, uint64(a.Port())), socket)
	} else {
		var pipe int
		b, pipe = wire.Begin(b, 2)
		b = wire.End(text(b, 1, a.Path), pipe)
	}
	return wire.End(b, mark)
}
