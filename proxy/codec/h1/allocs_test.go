package h1

import (
	"context"
	"testing"

	"github.com/mecha-mesh/mecha/proxy/buffer"
	"github.com/mecha-mesh/mecha/proxy/codec"
	"github.com/mecha-mesh/mecha/proxy/header"
	"github.com/mecha-mesh/mecha/proxy/netio"
)

// browserHead is a request as browsers send it.
const browserHead = "GET /assets/main.4f1c2d.js?v=17 HTTP/1.1\r\n" +
	"Host: shop.example.com\r\n" +
	"User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0\r\n" +
	"Accept: */*\r\n" +
	"Accept-Language: en-US,en;q=0.5\r\n" +
	"Accept-Encoding: gzip, deflate, br, zstd\r\n" +
	"Connection: keep-alive\r\n" +
	"Referer: https://shop.example.com/cart\r\n" +
	"Cookie: session=7f3a9c1e5b2d4f6081a3c5e7092b4d6f; theme=dark; consent=1\r\n" +
	"Sec-Fetch-Dest: script\r\n" +
	"Sec-Fetch-Mode: no-cors\r\n" +
	"Sec-Fetch-Site: same-origin\r\n" +
	"If-None-Match: W/\"5e1c-190a\"\r\n" +
	"Priority: u=2\r\n\r\n"

// client is the reusable state of one who sends requests.
type client struct {
	conn    *ClientConn
	q, p    header.Map
	body    buffer.Buf
	payload []byte
	chunked bool
}

// round is one exchange; a payload goes with a length unless chunked.
func (c *client) round(t testing.TB) {
	st, err := c.conn.Open(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	c.q.Reset()
	c.q.AddID(header.Method, "POST")
	c.q.AddID(header.Path, "/x")
	c.q.AddID(header.Authority, "host")
	c.q.Add("x-some", "thing")
	if !c.chunked {
		c.q.SetInt(header.ContentLength, int64(len(c.payload)))
	}
	c.body.Append(c.payload)
	if err := st.WriteHeaders(&c.q, false); err != nil {
		t.Fatal(err)
	}
	if err := st.WriteData(&c.body, true); err != nil {
		t.Fatal(err)
	}
	c.p.Reset()
	next, err := st.ReadHeaders(&c.p)
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for next == codec.Data {
		if next, err = st.ReadData(&c.body); err != nil {
			t.Fatal(err)
		}
		n += c.body.Len()
		c.body.Release()
	}
	if n != len(c.payload) || !st.Release() || !c.conn.Alive() {
		t.Fatalf("%d bytes came back, connection alive: %v", n, c.conn.Alive())
	}
}

// mirror answers each request with its body, framed in the same way.
func mirror(c *ServerConn) error {
	var q, p header.Map
	var body buffer.Buf
	for {
		st, err := c.Accept()
		if err != nil {
			return err
		}
		next, err := st.ReadHeaders(&q)
		if err != nil {
			return err
		}
		p.AddID(header.Status, "200")
		p.Add("x-answer", "thing")
		if v := q.Value(header.ContentLength); v != "" {
			p.AddID(header.ContentLength, v)
		}
		if err := st.WriteHeaders(&p, next == codec.End); err != nil {
			return err
		}
		for next == codec.Data {
			if next, err = st.ReadData(&body); err != nil {
				return err
			}
			if err := st.WriteData(&body, next == codec.End); err != nil {
				return err
			}
		}
		q.Reset()
		p.Reset()
		if !st.Release() {
			return c.Close()
		}
	}
}

func TestAllocs(t *testing.T) {
	if raceEnabled || buffer.Invariants {
		t.Skip("instrumented build")
	}
	for _, c := range []struct {
		name    string
		size    int
		chunked bool
	}{{"small", 100, false}, {"large", 100 << 10, false}, {"chunked", 40 << 10, true}} {
		t.Run(c.name, func(t *testing.T) {
			a, b := tcpPair(t)
			done := make(chan error, 1)
			go func() { done <- mirror(NewServer(netio.NewConn(b), ServerOptions{})) }()
			cl := &client{conn: NewClient(netio.NewConn(a), ClientOptions{}), payload: make([]byte, c.size), chunked: c.chunked}
			for range 50 {
				cl.round(t)
			}
			if n := testing.AllocsPerRun(500, func() { cl.round(t) }); n != 0 {
				t.Errorf("%v allocations per exchange, both sides together; want 0", n)
			}
			cl.conn.Close()
			<-done
		})
	}
}

func TestAllocsParse(t *testing.T) {
	if raceEnabled {
		t.Skip("instrumented build")
	}
	var m header.Map
	s := &NewServer(netio.NewConn(&memConn{}), ServerOptions{}).stream
	head := make([]byte, len(browserHead))
	if n := testing.AllocsPerRun(1000, func() {
		copy(head, browserHead)
		m.Reset()
		if _, err := s.parse(head, &m); err != nil {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Errorf("%v allocations to parse a head, want 0", n)
	}
}

func BenchmarkParseHead(b *testing.B) {
	var m header.Map
	s := &NewServer(netio.NewConn(&memConn{}), ServerOptions{}).stream
	head := make([]byte, len(browserHead))
	b.SetBytes(int64(len(head)))
	b.ReportAllocs()
	for b.Loop() {
		copy(head, browserHead)
		m.Reset()
		if _, err := s.parse(head, &m); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkWriteHead(b *testing.B) {
	var m header.Map
	s := &NewServer(netio.NewConn(&memConn{}), ServerOptions{}).stream
	if _, err := s.parse([]byte(browserHead), &m); err != nil {
		b.Fatal(err)
	}
	var w writer
	b.ReportAllocs()
	for b.Loop() {
		w.headed = false
		if _, err := w.writeRequest(&m, false, false); err != nil {
			b.Fatal(err)
		}
		w.out.Release()
	}
}

// BenchmarkRound is a whole exchange, both sides, over a TCP connection.
func BenchmarkRound(b *testing.B) {
	x, y := tcpPair(b)
	done := make(chan error, 1)
	go func() { done <- mirror(NewServer(netio.NewConn(y), ServerOptions{})) }()
	cl := &client{conn: NewClient(netio.NewConn(x), ClientOptions{}), payload: make([]byte, 1000)}
	b.ReportAllocs()
	for b.Loop() {
		cl.round(b)
	}
	cl.conn.Close()
	<-done
}
