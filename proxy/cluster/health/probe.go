package health

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"io"

	"github.com/mecha-mesh/mecha/proxy/buffer"
	"github.com/mecha-mesh/mecha/proxy/codec"
	"github.com/mecha-mesh/mecha/proxy/header"
)

// agent is what checks call themselves, which logs of hosts are filtered by.
const agent = "Envoy/HC"

// maxAnswer bounds what is kept of an answer.
const maxAnswer = 1 << 20

// check asks over HTTP.
func (h *HTTP) check(ctx context.Context, s *Session) (result, error) {
	up, end, err := s.link.stream(ctx, h.HTTP2)
	if err != nil {
		return result{}, err
	}
	defer end()
	var m header.Map
	m.AddID(header.Method, cmp.Or(h.Method, "GET"))
	m.AddID(header.Scheme, "http")
	m.AddID(header.Authority, cmp.Or(s.host.Hostname, h.Host, s.host.Name))
	m.AddID(header.Path, h.Path)
	m.AddID(header.UserAgent, agent)
	if len(h.Send) > 0 {
		m.SetInt(header.ContentLength, int64(len(h.Send)))
	}
	for _, name := range h.Remove {
		m.Del(name)
	}
	addFields(&m, h.Add)
	limit := cmp.Or(h.BufferSize, maxAnswer)
	if len(h.Receive) == 0 {
		limit = 0
	}
	var answer, trailers header.Map
	body, err := exchange(up, &m, h.Send, &answer, &trailers, limit)
	if err != nil {
		return result{}, err
	}
	return h.judge(s.c, &answer, body), nil
}

// judge says what an answer means.
func (h *HTTP) judge(c *Checker, m *header.Map, body []byte) result {
	code := m.StatusCode()
	expected := in(h.Expected, code) || len(h.Expected) == 0 && code == 200
	r := result{degraded: m.Has(header.XEnvoyDegraded), immediate: m.Has(header.XEnvoyImmediateHealthCheckFail)}
	switch {
	case !expected:
		r.outcome, r.retriable = failed, in(h.Retriable, code)
	case len(h.Receive) > 0 && !contains(body, h.Receive):
		r.outcome = failed
	case h.Service != nil && c.verify.Match(c.env.Rand()):
		c.env.Stats.VerifyCluster.Inc()
		if !h.Service.Match(m.Get("x-envoy-upstream-healthchecked-cluster")) {
			r.outcome = failed
		}
	}
	if r.outcome != passed {
		r.degraded, r.code = false, code
	}
	return r
}

// contains reports whether the parts are in b, one after the other.
func contains(b []byte, parts [][]byte) bool {
	for _, p := range parts {
		at := bytes.Index(b, p)
		if at < 0 {
			return false
		}
		b = b[at+len(p):]
	}
	return true
}

func addFields(m *header.Map, fields []Field) {
	for _, f := range fields {
		if f.Overwrite {
			m.Set(f.Name, f.Value)
		} else {
			m.Add(f.Name, f.Value)
		}
	}
}

// exchange sends a request and reads its answer to the end, of the body so many bytes.
func exchange(up codec.ClientStream, m *header.Map, send []byte, answer, trailers *header.Map, limit int) (kept []byte, err error) {
	if err := up.WriteHeaders(m, len(send) == 0); err != nil {
		return nil, err
	}
	if len(send) > 0 {
		var b buffer.Buf
		defer b.Release()
		b.Append(send)
		if err := up.WriteData(&b, true); err != nil {
			return nil, err
		}
	}
	if err := up.Flush(); err != nil {
		return nil, err
	}
	next := codec.Data
	for code := 0; code < 200; code = answer.StatusCode() {
		answer.Reset()
		if next, err = up.ReadHeaders(answer); err != nil {
			return nil, err
		}
		if answer.StatusCode() == 101 {
			return nil, io.ErrUnexpectedEOF
		}
	}
	var b buffer.Buf
	defer b.Release()
	for next == codec.Data {
		if next, err = up.ReadData(&b); err != nil {
			return nil, err
		}
		if n := min(b.Len(), limit-len(kept)); n > 0 {
			kept = append(kept, b.Bytes()[:n]...)
		}
		b.Release()
	}
	if next == codec.Trailers {
		err = up.ReadTrailers(trailers)
	}
	answer.Keep()
	trailers.Keep()
	return kept, err
}

// check asks over gRPC.
func (g *GRPC) check(ctx context.Context, s *Session) (result, error) {
	up, end, err := s.link.stream(ctx, true)
	if err != nil {
		return result{}, err
	}
	defer end()
	var m header.Map
	m.AddID(header.Method, "POST")
	m.AddID(header.Scheme, "http")
	m.AddID(header.Authority, cmp.Or(s.host.Hostname, g.Authority, s.host.Name))
	m.AddID(header.Path, "/grpc.health.v1.Health/Check")
	m.AddID(header.ContentType, "application/grpc")
	m.Add("te", "trailers")
	m.AddID(header.UserAgent, agent)
	addFields(&m, g.Metadata)
	var answer, trailers header.Map
	body, err := exchange(up, &m, g.request(), &answer, &trailers, 1<<10)
	if err != nil {
		return result{}, err
	}
	status := cmp.Or(trailers.Value(header.GrpcStatus), answer.Value(header.GrpcStatus))
	if answer.StatusCode() != 200 || status != "0" || !serving(body) {
		return result{outcome: failed}, nil
	}
	return result{degraded: answer.Has(header.XEnvoyDegraded)}, nil
}

// request is a HealthCheckRequest with its prefix.
func (g *GRPC) request() []byte {
	var msg []byte
	if g.Service != "" {
		msg = binary.AppendUvarint([]byte{1<<3 | 2}, uint64(len(g.Service)))
		msg = append(msg, g.Service...)
	}
	return append(binary.BigEndian.AppendUint32([]byte{0}, uint32(len(msg))), msg...)
}

// serving reports whether a message with its prefix is a HealthCheckResponse that says
// SERVING. Fields that are not known are passed over; of a field that comes twice, the last
// one counts.
func serving(b []byte) bool {
	if len(b) < 5 || b[0] != 0 || uint64(binary.BigEndian.Uint32(b[1:])) != uint64(len(b)-5) {
		return false
	}
	status := uint64(0)
	for b = b[5:]; len(b) > 0; {
		tag, n := binary.Uvarint(b)
		if n <= 0 {
			return false
		}
		b = b[n:]
		v, n := binary.Uvarint(b) // a number, or the length of what follows
		switch {
		case n <= 0 && tag&7 <= 2 && tag&7 != 1:
			return false
		case tag&7 == 0:
			if b = b[n:]; tag>>3 == 1 {
				status = v
			}
			continue
		case tag&7 == 2 && v <= uint64(len(b)-n):
			b = b[n+int(v):]
			continue
		case tag&7 == 1 && len(b) >= 8:
			b = b[8:]
			continue
		case tag&7 == 5 && len(b) >= 4:
			b = b[4:]
			continue
		}
		return false
	}
	return status == 1
}

// check asks by a connection, and by bytes on it.
func (t *TCP) check(ctx context.Context, l *link) (r result, err error) {
	if err := l.open(ctx); err != nil {
		return r, err
	}
	stop := context.AfterFunc(ctx, l.conn.Interrupt)
	defer func() {
		if !stop() || len(t.Receive) == 0 {
			l.close()
		}
	}()
	if len(t.Send) > 0 {
		if _, err := l.conn.Write(t.Send); err != nil {
			return r, err
		}
	}
	if len(t.Receive) == 0 {
		return r, nil
	}
	var seen []byte
	var p [4096]byte
	for !contains(seen, t.Receive) {
		n, err := l.conn.Read(p[:])
		if seen = append(seen, p[:n]...); err != nil {
			return r, err
		}
		if len(seen) > maxAnswer {
			return r, io.ErrShortBuffer
		}
	}
	return r, nil
}
