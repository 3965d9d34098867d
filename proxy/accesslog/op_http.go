package accesslog

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"

	"github.com/mecha-mesh/mecha/proxy/header"
)

// defineHTTP knows the operators about headers, paths and what HTTP says of itself.
func defineHTTP(name string) (definition, bool) {
	switch name {
	case "REQ", "REQUEST_HEADER":
		return headerOperator(func(e *Entry) *header.Map { return e.Request }), true
	case "RESP", "RESPONSE_HEADER":
		return headerOperator(func(e *Entry) *header.Map { return e.Response }), true
	case "TRAILER", "RESPONSE_TRAILER":
		return headerOperator(func(e *Entry) *header.Map { return e.Trailers }), true
	case "REQ_WITHOUT_QUERY":
		d := headerOperator(func(e *Entry) *header.Map { return e.Request })
		build := d.build
		d.build = func(args string) (appendFunc, error) {
			f, err := build(args)
			return withoutQuery(f), err
		}
		return d, true
	case "REQUEST_HEADERS_BYTES":
		return mapBytes(func(e *Entry) *header.Map { return e.Request }), true
	case "RESPONSE_HEADERS_BYTES":
		return mapBytes(func(e *Entry) *header.Map { return e.Response }), true
	case "RESPONSE_TRAILERS_BYTES":
		return mapBytes(func(e *Entry) *header.Map { return e.Trailers }), true
	case "PATH":
		return definition{args: mayArgs, build: pathOperator}, true
	case "QUERY_PARAM":
		return definition{args: mustArgs, build: func(key string) (appendFunc, error) { return queryParam(key), nil }}, true
	case "QUERY_PARAMS":
		return definition{args: mayArgs, build: queryParams}, true
	case "REQUESTED_SERVER_NAME":
		return definition{args: mayArgs, build: serverName}, true
	case "GRPC_STATUS":
		return definition{args: mayArgs, build: grpcStatus}, true
	case "GRPC_STATUS_NUMBER":
		return definition{kind: number, plain: func(dst []byte, e *Entry) ([]byte, bool) {
			code, ok := grpcCode(e)
			return strconv.AppendInt(dst, int64(code), 10), ok
		}}, true
	case "STREAM_ID":
		return definition{plain: func(dst []byte, e *Entry) ([]byte, bool) {
			id := e.id()
			return append(dst, id...), id != ""
		}}, true
	case "UNIQUE_ID":
		return definition{plain: func(dst []byte, _ *Entry) ([]byte, bool) { return appendUUID(dst), true }}, true
	case "LOCAL_REPLY_BODY":
		return definition{plain: func(dst []byte, e *Entry) ([]byte, bool) { return append(dst, e.LocalReplyBody...), true }}, true
	}
	return definition{}, false
}

func (e *Entry) id() string {
	if e.StreamID == "" && e.Request != nil {
		return e.Request.Value(header.XRequestId)
	}
	return e.StreamID
}

// headerOperator takes "NAME" or "NAME?ALTERNATIVE".
func headerOperator(of func(*Entry) *header.Map) definition {
	return definition{args: mustArgs, build: func(args string) (appendFunc, error) {
		name, alt, hasAlt := strings.Cut(strings.ToLower(args), "?")
		if strings.Contains(alt, "?") {
			return nil, fmt.Errorf("more than one alternative header")
		}
		if !validName(name) || hasAlt && !validName(alt) {
			return nil, fmt.Errorf("not the name of a header")
		}
		first, second := newField(name), newField(alt)
		return func(dst []byte, e *Entry) ([]byte, bool) {
			m := of(e)
			if m == nil {
				return dst, false
			}
			v, ok := first.find(m)
			if !ok && hasAlt {
				v, ok = second.find(m)
			}
			return append(dst, v...), ok
		}, nil
	}}
}

// validName reports whether s can be a header or pseudo-header name.
func validName(s string) bool {
	s = strings.TrimPrefix(s, ":")
	for i := range len(s) {
		c := s[i]
		if c <= ' ' || c >= 0x7f || strings.IndexByte(`"(),/:;<=>?@[\]{}`, c) >= 0 {
			return false
		}
	}
	return s != ""
}

// field is a header name that was looked up once.
type field struct {
	name string
	id   header.ID
}

func newField(name string) field { return field{name, header.Lookup(name)} }

func (f field) find(m *header.Map) (string, bool) {
	if f.id != header.Other {
		return m.Value(f.id), m.Has(f.id)
	}
	return m.Find(f.name)
}

func withoutQuery(f appendFunc) appendFunc {
	return func(dst []byte, e *Entry) ([]byte, bool) {
		start := len(dst)
		dst, ok := f(dst, e)
		for i := start; i < len(dst); i++ {
			if dst[i] == '?' {
				return dst[:i], ok
			}
		}
		return dst, ok
	}
}

func mapBytes(of func(*Entry) *header.Map) definition {
	return definition{kind: number, plain: func(dst []byte, e *Entry) ([]byte, bool) {
		n := 0
		if m := of(e); m != nil {
			n = m.Bytes()
		}
		return strconv.AppendInt(dst, int64(n), 10), true
	}}
}

// path returns the path of the request: as the client sent it, or as it is now.
func (e *Entry) path(original bool) (string, bool) {
	if e.Request == nil {
		return "", false
	}
	if original {
		return e.Request.Value(header.XEnvoyOriginalPath), e.Request.Has(header.XEnvoyOriginalPath)
	}
	return e.Request.Value(header.Path), e.Request.Has(header.Path)
}

func (e *Entry) originalPath() (string, bool) {
	if p, ok := e.path(true); ok {
		return p, true
	}
	return e.path(false)
}

// pathOperator takes WQ or NQ (with or without query), then ORIG, PATH or
// ORIG_OR_PATH.
func pathOperator(args string) (appendFunc, error) {
	query, which, _ := strings.Cut(args, ":")
	var keep bool
	switch query {
	case "", "WQ":
		keep = true
	case "NQ":
	default:
		return nil, fmt.Errorf("%q is not WQ or NQ", query)
	}
	get := (*Entry).originalPath
	switch which {
	case "", "ORIG_OR_PATH":
	case "ORIG":
		get = func(e *Entry) (string, bool) { return e.path(true) }
	case "PATH":
		get = func(e *Entry) (string, bool) { return e.path(false) }
	default:
		return nil, fmt.Errorf("%q is not ORIG, PATH or ORIG_OR_PATH", which)
	}
	return func(dst []byte, e *Entry) ([]byte, bool) {
		p, ok := get(e)
		if !keep {
			p, _, _ = strings.Cut(p, "?")
		}
		return append(dst, p...), ok
	}, nil
}

func (e *Entry) query() (string, bool) {
	p, _ := e.originalPath()
	p, _, _ = strings.Cut(p, "#")
	_, q, ok := strings.Cut(p, "?")
	return q, ok
}

func queryParam(key string) appendFunc {
	return func(dst []byte, e *Entry) ([]byte, bool) {
		q, _ := e.query()
		for q != "" {
			var part string
			part, q, _ = strings.Cut(q, "&")
			if k, v, _ := strings.Cut(part, "="); k == key {
				return appendUnescaped(dst, v), true
			}
		}
		return dst, false
	}
}

// queryParams takes ORIG or DECODED; Envoy prints the query as it is for both.
func queryParams(args string) (appendFunc, error) {
	switch args {
	case "", "ORIG", "DECODED":
	default:
		return nil, fmt.Errorf("%q is not ORIG or DECODED", args)
	}
	return func(dst []byte, e *Entry) ([]byte, bool) {
		q, ok := e.query()
		return append(dst, q...), ok
	}, nil
}

func appendUnescaped(dst []byte, s string) []byte {
	for i := 0; i < len(s); i++ {
		if s[i] == '%' && i+2 < len(s) {
			if v, err := strconv.ParseUint(s[i+1:i+3], 16, 8); err == nil {
				dst = append(dst, byte(v))
				i += 2
				continue
			}
		}
		dst = append(dst, s[i])
	}
	return dst
}

// serverName takes SNI_ONLY (the default), SNI_FIRST, HOST_FIRST or HOST_ONLY, then
// ORIG, HOST or ORIG_OR_HOST, which say what the host is.
func serverName(args string) (appendFunc, error) {
	order, from, _ := strings.Cut(args, ":")
	switch order {
	case "", "SNI_ONLY", "SNI_FIRST", "HOST_FIRST", "HOST_ONLY":
	default:
		return nil, fmt.Errorf("%q is not SNI_ONLY, SNI_FIRST, HOST_FIRST or HOST_ONLY", order)
	}
	switch from {
	case "", "ORIG", "HOST", "ORIG_OR_HOST":
	default:
		return nil, fmt.Errorf("%q is not ORIG, HOST or ORIG_OR_HOST", from)
	}
	host := func(e *Entry) string {
		if e.Request == nil {
			return ""
		}
		if h := e.Request.Value(header.XEnvoyOriginalHost); from == "ORIG" || from == "ORIG_OR_HOST" && h != "" {
			return h
		}
		return e.Request.Value(header.Authority)
	}
	return func(dst []byte, e *Entry) ([]byte, bool) {
		sni := ""
		if e.Conn != nil && order != "HOST_ONLY" {
			sni = e.Conn.ServerName
		}
		v := sni
		if order == "HOST_FIRST" || v == "" && (order == "SNI_FIRST" || order == "HOST_ONLY") {
			if h := host(e); h != "" {
				v = h
			}
		}
		return append(dst, v...), v != ""
	}, nil
}

// grpcNames are the names of the status codes in camel case.
var grpcNames = [...]string{
	"OK", "Canceled", "Unknown", "InvalidArgument", "DeadlineExceeded", "NotFound", "AlreadyExists", "PermissionDenied",
	"ResourceExhausted", "FailedPrecondition", "Aborted", "OutOfRange", "Unimplemented", "Internal", "Unavailable",
	"DataLoss", "Unauthenticated",
}

// grpcSnakeNames are the same in snake case.
var grpcSnakeNames = [...]string{
	"OK", "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND", "ALREADY_EXISTS", "PERMISSION_DENIED",
	"RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "ABORTED", "OUT_OF_RANGE", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE",
	"DATA_LOSS", "UNAUTHENTICATED",
}

func grpcStatus(args string) (appendFunc, error) {
	names := grpcNames[:]
	switch args {
	case "", "CAMEL_STRING":
	case "SNAKE_STRING":
		names = grpcSnakeNames[:]
	case "NUMBER":
		names = nil
	default:
		return nil, fmt.Errorf("%q is not CAMEL_STRING, SNAKE_STRING or NUMBER", args)
	}
	return func(dst []byte, e *Entry) ([]byte, bool) {
		code, ok := grpcCode(e)
		if code >= 0 && code < len(names) {
			return append(dst, names[code]...), ok
		}
		return strconv.AppendInt(dst, int64(code), 10), ok
	}, nil
}

// grpcCode returns the status of a gRPC call: from the trailers, from the headers of
// an answer without them, or what gRPC makes of the HTTP code.
func grpcCode(e *Entry) (int, bool) {
	if e.Request == nil || !strings.HasPrefix(e.Request.Value(header.ContentType), "application/grpc") {
		return 0, false
	}
	for _, m := range [...]*header.Map{e.Trailers, e.Response} {
		if m == nil {
			continue
		}
		if v, ok := m.Find("grpc-status"); ok {
			code, err := strconv.ParseUint(v, 10, 31)
			return int(code), err == nil
		}
	}
	if e.Stream == nil || e.Stream.Code == 0 {
		return 0, false
	}
	switch e.Stream.Code {
	case http.StatusOK:
		return 0, false // ended without a status
	case http.StatusBadRequest:
		return 13, true
	case http.StatusUnauthorized:
		return 16, true
	case http.StatusForbidden:
		return 7, true
	case http.StatusNotFound:
		return 12, true
	case http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return 14, true
	}
	return 2, true
}

// appendUUID appends a random UUID of version 4.
func appendUUID(dst []byte) []byte {
	const hex = "0123456789abcdef"
	hi, lo := rand.Uint64(), rand.Uint64()
	hi = hi&^0xf000 | 0x4000
	lo = lo&^(3<<62) | 2<<62
	for i := 60; i >= 0; i -= 4 {
		dst = append(dst, hex[hi>>uint(i)&15])
		if i == 32 || i == 16 || i == 0 {
			dst = append(dst, '-')
		}
	}
	for i := 60; i >= 0; i -= 4 {
		dst = append(dst, hex[lo>>uint(i)&15])
		if i == 48 {
			dst = append(dst, '-')
		}
	}
	return dst
}
