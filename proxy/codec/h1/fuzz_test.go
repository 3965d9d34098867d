package h1

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net/http"
	"net/http/httputil"
	"os"
	"strings"
	"testing"

	"github.com/mecha-mesh/mecha/proxy/buffer"
	"github.com/mecha-mesh/mecha/proxy/codec"
	"github.com/mecha-mesh/mecha/proxy/codec/h1/verdicts"
	"github.com/mecha-mesh/mecha/proxy/header"
	"github.com/mecha-mesh/mecha/proxy/netio"
)

// corpus gives the seeds: what clients send and what upstreams answer.
func corpus(f *testing.F, each func(c *verdicts.Case)) {
	cases, err := verdicts.Load(os.DirFS("testdata/verdicts"))
	if err != nil {
		f.Fatal(err)
	}
	for i := range cases {
		if len(cases[i].Payload()) < 4<<10 && len(cases[i].ReplyBytes()) < 4<<10 {
			each(&cases[i])
		}
	}
}

// serve parses b as what a client sends and returns the request and its body.
func serve(b []byte, o ServerOptions) (m *header.Map, body string, err error) {
	x, y := memPair()
	_, _ = x.Write(b)
	_ = x.CloseWrite()
	s := NewServer(netio.NewConn(y), o)
	defer s.Close()
	st, err := s.Accept()
	if err != nil {
		return nil, "", err
	}
	defer st.Release()
	m = &header.Map{}
	next, err := st.ReadHeaders(m)
	var data buffer.Buf
	defer data.Release()
	for err == nil && next == codec.Data {
		next, err = st.ReadData(&data)
	}
	return deepCopy(m), string(data.Bytes()), err
}

func deepCopy(m *header.Map) *header.Map {
	c := &header.Map{}
	m.CopyTo(c, true)
	return c
}

// FuzzRequestHead: what is accepted reads the same to net/http, and to ourselves
// once it was written again.
func FuzzRequestHead(f *testing.F) {
	f.Add([]byte(browserHead))
	corpus(f, func(c *verdicts.Case) { f.Add(c.Payload()) })
	f.Fuzz(func(t *testing.T, b []byte) {
		m, body, err := serve(b, ServerOptions{})
		if err != nil {
			return
		}
		checkMap(t, m)
		if q, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(bytes.TrimLeft(b, "\r\n")))); err == nil {
			theirs, err := io.ReadAll(q.Body)
			if q.Method != m.Value(header.Method) || q.Method != "CONNECT" && q.Host != m.Value(header.Authority) || err == nil && string(theirs) != body {
				t.Errorf("net/http reads %s %s %q (%v), we %s %q", q.Method, q.Host, theirs, err, list(m), body)
			}
		}
		again := rewrite(t, m, body)
		m2, body2, err := serve(again, ServerOptions{AllowCustomMethods: true})
		m.DelID(header.Scheme)
		if !m.Has(header.ContentLength) {
			m2.DelID(header.ContentLength) // of a POST without a body
		}
		if err != nil || list(m2) != list(m) || body2 != body {
			t.Errorf("%q: %v\nfirst  %s %q\nsecond %s %q", again, err, list(m), body, list(m2), body2)
		}
	})
}

// rewrite writes a request as the client side does.
func rewrite(t *testing.T, m *header.Map, body string) []byte {
	x, y := memPair()
	conn := NewClient(netio.NewConn(y), ClientOptions{})
	defer conn.Close()
	st, err := conn.Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := st.WriteHeaders(m, body == ""); err != nil {
		t.Fatalf("what was read can't be written: %s: %v", list(m), err)
	}
	if body != "" {
		if err := st.WriteData(bufOf(body), true); err != nil {
			t.Fatal(err)
		}
	}
	if err := st.Flush(); err != nil {
		t.Fatal(err)
	}
	st.Release()
	return []byte((&peer{conn: x}).got())
}

// checkMap checks what every map from the codec promises.
func checkMap(t *testing.T, m *header.Map) {
	for name, value := range m.All() {
		if name != strings.ToLower(name) || strings.ContainsAny(name+value, "\r\n\x00") {
			t.Errorf("field %q: %q", name, value)
		}
		switch header.Lookup(name) {
		case header.TransferEncoding, header.KeepAlive, header.ProxyConnection:
			t.Errorf("%s is in the map", name)
		case header.Connection:
			if value != "upgrade" || !m.Has(header.Upgrade) {
				t.Errorf("connection: %s is in the map", value)
			}
		}
	}
}

// FuzzResponseHead: what is accepted reads the same to net/http.
func FuzzResponseHead(f *testing.F) {
	corpus(f, func(c *verdicts.Case) { f.Add(c.ReplyBytes(), false) })
	f.Fuzz(func(t *testing.T, b []byte, head bool) {
		x, y := memPair()
		conn := NewClient(netio.NewConn(y), ClientOptions{})
		defer conn.Close()
		st, err := conn.Open(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer st.Release()
		method := "GET"
		if head {
			method = "HEAD"
		}
		if err := st.WriteHeaders(fieldsOf(":method", method, ":path", "/", ":authority", "h"), true); err != nil {
			t.Fatal(err)
		}
		_, _ = x.Write(b)
		_ = x.CloseWrite()
		var m header.Map
		next, err := st.ReadHeaders(&m)
		var body buffer.Buf
		defer body.Release()
		if err != nil {
			return
		}
		checkMap(t, &m)
		status := m.Value(header.Status)
		if status[0] == '1' {
			return
		}
		for err == nil && next == codec.Data {
			next, err = st.ReadData(&body)
		}
		if err != nil {
			return
		}
		p, err := http.ReadResponse(bufio.NewReader(bytes.NewReader(b)), &http.Request{Method: method})
		if err != nil {
			return
		}
		theirs, err := io.ReadAll(p.Body)
		if p.StatusCode/100 != int(status[0]-'0') || err == nil && !bytes.Equal(theirs, body.Bytes()) {
			t.Errorf("net/http reads %d %q, we %s %q", p.StatusCode, theirs, status, body.Bytes())
		}
	})
}

// FuzzChunked: the pieces in which a body arrives don't matter, and net/http reads
// the same data where it reads any.
func FuzzChunked(f *testing.F) {
	f.Add([]byte("5\r\nhello\r\n0\r\n\r\n"), uint8(1))
	f.Add([]byte("a;x=y\r\n0123456789\r\n000\r\nx: y\r\n\r\n"), uint8(3))
	corpus(f, func(c *verdicts.Case) {
		if _, body, ok := bytes.Cut(c.Payload(), []byte("chunked\r\n\r\n")); ok {
			f.Add(body, uint8(2))
		}
	})
	f.Fuzz(func(t *testing.T, b []byte, step uint8) {
		whole, err := dechunk(b, nil)
		pieces, err2 := dechunk(b, func(int) int { return int(step) })
		if (err == nil) != (err2 == nil) || err == nil && pieces != whole {
			t.Errorf("whole %q %v, in pieces of %d %q %v", whole, err, step, pieces, err2)
		}
		if err != nil {
			return
		}
		theirs, err := io.ReadAll(httputil.NewChunkedReader(bytes.NewReader(b)))
		if err == nil && string(theirs) != whole {
			t.Errorf("net/http reads %q, we %q", theirs, whole)
		}
	})
}

func dechunk(b []byte, step func(int) int) (string, error) {
	x, y := memPair()
	y.in.step = step
	_, _ = x.Write(b)
	_ = x.CloseWrite()
	r := reader{conn: netio.NewConn(y), opt: &Options{}}
	defer r.reset()
	defer r.in.Release()
	r.begin(byChunks, 0)
	var data buffer.Buf
	defer data.Release()
	for {
		next, err := r.readData(&data)
		if err != nil || next == codec.End {
			return string(data.Bytes()), err
		}
	}
}

// FuzzServerConn sends arbitrary bytes through a relay: it comes to an end, and what
// it forwards is plain to another parser.
func FuzzServerConn(f *testing.F) {
	corpus(f, func(c *verdicts.Case) { f.Add(c.Payload(), uint8(0)) })
	f.Add([]byte(browserHead+browserHead), uint8(1))
	f.Fuzz(func(t *testing.T, b []byte, step uint8) {
		u := &upstream{c: &verdicts.Case{}}
		client, server := memPair()
		var pieces func(int) int
		if step > 0 {
			pieces = func(int) int { return int(step) }
		}
		server.in.step = pieces
		_, _ = client.Write(b)
		_ = client.CloseWrite()
		p := &relay{
			server: NewServer(netio.NewConn(server), ServerOptions{AcceptHTTP10: step&1 == 1}),
			dial:   func() *ClientConn { return u.dial(ClientOptions{}, pieces) },
		}
		p.run()
		for _, s := range u.conns {
			checkForwarded(t, <-s.done)
		}
	})
}

// checkForwarded reads a stream of requests with net/http. Only the last may be
// cut short.
func checkForwarded(t *testing.T, got []byte) {
	r := bufio.NewReader(bytes.NewReader(got))
	for {
		q, err := http.ReadRequest(r)
		if err == io.EOF {
			return
		}
		if err != nil {
			if strings.Contains(err.Error(), "invalid URI") || strings.Contains(err.Error(), "parse ") {
				return // net/http is more particular about paths
			}
			t.Fatalf("forwarded %q: %v", got, err)
		}
		if _, err := io.Copy(io.Discard, q.Body); err != nil {
			if !errors.Is(err, io.ErrUnexpectedEOF) {
				t.Fatalf("forwarded %q: %v", got, err)
			}
			return
		}
	}
}
