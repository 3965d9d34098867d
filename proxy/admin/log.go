package admin

import (
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/mecha-mesh/mecha/proxy/accesslog"
	"github.com/mecha-mesh/mecha/proxy/header"
	"github.com/mecha-mesh/mecha/proxy/meta"
)

// logged counts requests and writes the access log of the admin server.
func (s *Server) logged(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		rec := &recorder{ResponseWriter: w, code: http.StatusOK}
		start := time.Now()
		s.counters.begin(r)
		defer func() {
			s.counters.end(rec.code, time.Since(start))
			if len(s.cfg.Access) > 0 {
				s.log(r, rec, start)
			}
		}()
		next.ServeHTTP(rec, r)
	})
}

// recorder notes what was answered.
type recorder struct {
	http.ResponseWriter
	code  int
	bytes int64
}

// WriteHeader implements http.ResponseWriter.
func (r *recorder) WriteHeader(code int) {
	r.code = code
	r.ResponseWriter.WriteHeader(code)
}

// Write implements http.ResponseWriter.
func (r *recorder) Write(p []byte) (int, error) {
	n, err := r.ResponseWriter.Write(p)
	r.bytes += int64(n)
	return n, err
}

// Unwrap lets http.ResponseController reach the connection.
func (r *recorder) Unwrap() http.ResponseWriter { return r.ResponseWriter }

func (s *Server) log(r *http.Request, rec *recorder, start time.Time) {
	var request, response header.Map
	request.AddID(header.Method, r.Method)
	request.AddID(header.Path, r.RequestURI)
	request.AddID(header.Authority, r.Host)
	copyHeader(&request, r.Header)
	copyHeader(&response, rec.Header())
	conn := meta.Conn{Start: start}
	if c, ok := r.Context().Value(connKey{}).(net.Conn); ok {
		conn.Local, conn.Remote = meta.AddrOf(c.LocalAddr()), meta.AddrOf(c.RemoteAddr())
		conn.Direct = conn.Remote
	}
	protocol := meta.HTTP11
	if r.ProtoMinor == 0 {
		protocol = meta.HTTP10
	}
	stream := meta.Stream{
		Start: start, Protocol: protocol, Code: rec.code, BytesReceived: max(r.ContentLength, 0), BytesSent: rec.bytes, End: time.Since(start),
	}
	e := accesslog.Entry{Conn: &conn, Stream: &stream, Request: &request, Response: &response, Type: accesslog.DownstreamEnd}
	for _, l := range s.cfg.Access {
		l.Log(&e)
	}
}

func copyHeader(dst *header.Map, src http.Header) {
	for name, values := range src {
		for _, v := range values {
			dst.Add(strings.ToLower(name), v)
		}
	}
}
