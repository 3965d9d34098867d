// Package otlplog writes entries of access logs as log records of OpenTelemetry
// (opentelemetry.proto.logs.v1).
//
// How they are sent is in proxy/export.
package otlplog

import (
	"encoding/hex"

	"github.com/mecha-mesh/mecha/proxy/accesslog"
	"github.com/mecha-mesh/mecha/proxy/trace"
	"github.com/mecha-mesh/mecha/proxy/wire"
)

// Format says what a record tells: plain, validated, immutable
// (OpenTelemetryAccessLogConfig).
type Format struct {
	Body        Value // nil: none
	Attributes  Fields
	FilterState []string
	Tags        []trace.Tag
}

// Value is a value of AnyValue that may depend on the entry.
type Value interface {
	append(b []byte, e *accesslog.Entry) []byte
}

// The values. Text is a format; Fixed is an AnyValue that is there already.
type (
	Text   struct{ *accesslog.Format }
	Fixed  []byte
	List   []Value
	Fields []Field
	Field  struct {
		Name  string
		Value Value
	}
)

func (t Text) append(b []byte, e *accesslog.Entry) []byte {
	start := len(b)
	text := t.Format.Append(nil, e)
	return wire.Bytes(b[:start], 1, trace.Valid(string(text)))
}

func (f Fixed) append(b []byte, _ *accesslog.Entry) []byte { return append(b, f...) }

func (l List) append(b []byte, e *accesslog.Entry) []byte {
	b, list := wire.Begin(b, 5)
	for _, v := range l {
		var one int
		b, one = wire.Begin(b, 1)
		b = wire.End(v.append(b, e), one)
	}
	return wire.End(b, list)
}

func (f Fields) append(b []byte, e *accesslog.Entry) []byte {
	b, list := wire.Begin(b, 6)
	return wire.End(f.pairs(b, 1, e), list)
}

func (f Fields) pairs(b []byte, field int, e *accesslog.Entry) []byte {
	for i := range f {
		var one, value int
		b, one = wire.Begin(b, field)
		b = wire.Bytes(b, 1, f[i].Name)
		b, value = wire.Begin(b, 2)
		b = wire.End(wire.End(f[i].Value.append(b, e), value), one)
	}
	return b
}

// Append appends a record as a field of ScopeLogs.
func (f *Format) Append(b []byte, e *accesslog.Entry) []byte {
	b, record := wire.Begin(b, 2)
	b = wire.Fixed64(b, 1, uint64(e.Stream.Start.UnixNano()))
	if f.Body != nil {
		var body int
		b, body = wire.Begin(b, 5)
		b = wire.End(f.Body.append(b, e), body)
	}
	b = f.Attributes.pairs(b, 6, e)
	for _, key := range f.FilterState {
		if e.Lookup == nil {
			break
		}
		if v, ok := e.Lookup.AppendValue(nil, "FILTER_STATE", key, true); ok {
			b = attribute(b, key, trace.Valid(string(v)))
		}
	}
	for i := range f.Tags {
		if v := f.Tags[i].Text(e); v != "" {
			b = attribute(b, f.Tags[i].Name, v)
		}
	}
	b = appendID(b, 9, "TRACE_ID", 16, e)
	b = appendID(b, 10, "SPAN_ID", 8, e)
	return wire.End(b, record)
}

func attribute(b []byte, name, value string) []byte {
	return Fields{{name, Fixed(wire.Bytes(nil, 1, value))}}.pairs(b, 6, nil)
}

// appendID appends an ID of the span of the request, in full length.
func appendID(b []byte, field int, operator string, size int, e *accesslog.Entry) []byte {
	if e.Lookup == nil {
		return b
	}
	text, ok := e.Lookup.AppendValue(nil, operator, "", false)
	if !ok {
		return b
	}
	var id [16]byte
	n := hex.DecodedLen(len(text))
	if n > size {
		return b
	}
	if _, err := hex.Decode(id[size-n:size], text); err != nil {
		return b
	}
	return wire.Bytes(b, field, id[:size])
}
