package filter

import (
	"bytes"
	"encoding/json"
	"strconv"
	"strings"

	"github.com/mecha-mesh/mecha/proxy/accesslog"
	"github.com/mecha-mesh/mecha/proxy/meta"
)

var (
	_ accesslog.Lookup = (*Stream)(nil)
	_ accesslog.Lookup = (*Conn)(nil)
)

// AppendValue implements accesslog.Lookup: metadata and filter state of the stream.
func (s *Stream) AppendValue(dst []byte, operator, arguments string, asJSON bool) ([]byte, bool) {
	switch operator {
	case "TRACE_ID", "SPAN_ID":
		return s.appendTrace(dst, operator, asJSON)
	}
	if operator == "FILTER_STATE" {
		key, form, part := stateArguments(arguments)
		return appendState(dst, s.FilterState(key), form, part, asJSON)
	}
	return appendMetadata(dst, &s.Metadata, &s.Meta, s.Conn, s.Route, operator, arguments, asJSON)
}

// appendTrace appends an ID of the stream's span.
func (s *Stream) appendTrace(dst []byte, operator string, asJSON bool) ([]byte, bool) {
	if s.Span == nil {
		return dst, false
	}
	quote := func() {
		if asJSON {
			dst = append(dst, '"')
		}
	}
	quote()
	if operator == "TRACE_ID" {
		dst = s.Span.AppendTraceID(dst)
	} else {
		dst = s.Span.AppendID(dst)
	}
	quote()
	return dst, true
}

// AppendValue implements accesslog.Lookup: metadata and filter state of the connection.
func (c *Conn) AppendValue(dst []byte, operator, arguments string, asJSON bool) ([]byte, bool) {
	if operator == "FILTER_STATE" {
		key, form, part := stateArguments(arguments)
		return appendState(dst, c.State.Get(key), form, part, asJSON)
	}
	return appendMetadata(dst, &c.Metadata, &c.Log, c.Meta, nil, operator, arguments, asJSON)
}

// describedRoute is a route with metadata, of its own and of its virtual host.
type describedRoute interface {
	Configured() (route, host meta.Fields)
}

func read(f func() meta.Fields) meta.Fields {
	if f == nil {
		return nil
	}
	return f()
}

// appendMetadata finds what DYNAMIC_METADATA(namespace:key:...) and its like name.
// METADATA(TYPE:...) says which metadata in its first argument. r is nil where there is no
// route.
func appendMetadata(dst []byte, dynamic *meta.Metadata, s *meta.Stream, c *meta.Conn, r Route, operator, arguments string, asJSON bool) ([]byte, bool) {
	if operator == "METADATA" {
		operator, arguments, _ = strings.Cut(arguments, ":")
		operator += "_METADATA"
	}
	namespace, path, deeper := strings.Cut(arguments, ":")
	var fields map[string]any
	switch operator {
	case "DYNAMIC_METADATA":
		fields = dynamic.Namespace(namespace)
	case "UPSTREAM_METADATA", "UPSTREAM_HOST_METADATA":
		fields = s.HostMetadata[namespace]
	case "CLUSTER_METADATA":
		fields = read(s.ClusterMetadata)[namespace]
	case "ROUTE_METADATA", "VIRTUAL_HOST_METADATA":
		if m, ok := r.(describedRoute); ok {
			route, host := m.Configured()
			if fields = route[namespace]; operator[0] == 'V' {
				fields = host[namespace]
			}
		}
	case "LISTENER_METADATA", "LISTENER_FILTER_CHAIN_METADATA":
		if c != nil && c.Configured != nil {
			if fields = read(c.Configured.Listener)[namespace]; operator != "LISTENER_METADATA" {
				fields = read(c.Configured.FilterChain)[namespace]
			}
		}
	}
	if fields == nil {
		return dst, false
	}
	if !deeper {
		return appendAny(dst, fields, asJSON)
	}
	for {
		key, rest, more := strings.Cut(path, ":")
		v, ok := fields[key]
		if !ok {
			return dst, false
		}
		if !more {
			return appendAny(dst, v, asJSON)
		}
		if fields, ok = v.(map[string]any); !ok {
			return dst, false
		}
		path = rest
	}
}

// appendAny appends a value of JSON; a string without quotes unless asJSON.
func appendAny(dst []byte, v any, asJSON bool) ([]byte, bool) {
	switch x := v.(type) {
	case nil:
		return dst, false
	case string:
		return appendText(dst, x, asJSON), true
	case bool:
		return strconv.AppendBool(dst, x), true
	}
	return appendJSON(dst, v)
}

func appendText(dst []byte, s string, asJSON bool) []byte {
	if !asJSON {
		return append(dst, s...)
	}
	dst, _ = appendJSON(dst, s) // a text can always be encoded
	return dst
}

func appendJSON(dst []byte, v any) ([]byte, bool) {
	var out bytes.Buffer
	e := json.NewEncoder(&out)
	e.SetEscapeHTML(false)
	if e.Encode(v) != nil {
		return dst, false
	}
	return append(dst, bytes.TrimSuffix(out.Bytes(), []byte("\n"))...), true
}

// stateArguments cuts KEY[:PLAIN|TYPED|FIELD:NAME].
func stateArguments(arguments string) (key, form, part string) {
	key, rest, _ := strings.Cut(arguments, ":")
	form, part, _ = strings.Cut(rest, ":")
	return key, form, part
}

// appendState appends an object of the filter state. TYPED, the default, is its JSON:
// a text in quotes, or an object of its fields if it says so itself.
func appendState(dst []byte, object any, form, part string, asJSON bool) ([]byte, bool) {
	if object == nil {
		return dst, false
	}
	if form == "FIELD" {
		f, ok := object.(Fields)
		if !ok {
			return dst, false
		}
		text, ok := f.Field(part)
		if !ok {
			return dst, false
		}
		return appendText(dst, text, asJSON), true
	}
	if m, ok := object.(json.Marshaler); ok && form != "PLAIN" {
		b, err := m.MarshalJSON()
		return append(dst, b...), err == nil
	}
	text, ok := StateText(object)
	if !ok {
		return dst, false
	}
	return appendText(dst, text, asJSON || form != "PLAIN"), true
}
