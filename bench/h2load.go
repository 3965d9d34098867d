package main

import (
	"errors"
	"fmt"
)

// muxExchange is one request over HTTP/2 and what has to come back.
type muxExchange struct {
	fields  []string // pairs of name and value
	content []byte   // of the request
	answer  int      // bytes of the answer's content
	grpc    bool     // trailers with grpc-status 0 have to follow
}

func h2Get(path string) *muxExchange {
	return &muxExchange{
		fields: []string{
			":method", "GET", ":scheme", "http", ":path", path, ":authority", "bench.local",
			"user-agent", "bench", "accept", "*/*",
		},
		answer: bodySizes[path],
	}
}

const grpcPath = "/bench.Echo/Unary"

// grpcMessage is a message of n bytes with gRPC's prefix.
func grpcMessage(n int) []byte {
	b := make([]byte, 5+n)
	b[3], b[4] = byte(n>>8), byte(n)
	return b
}

// grpcSize is the length of both messages of a call.
const grpcSize = 64

func grpcCall() *muxExchange {
	return &muxExchange{
		fields: []string{
			":method", "POST", ":scheme", "http", ":path", grpcPath, ":authority", "bench.local",
			"content-type", "application/grpc", "user-agent", "grpc-bench/1", "te", "trailers",
		},
		content: grpcMessage(grpcSize),
		answer:  len(grpcMessage(grpcSize)),
		grpc:    true,
	}
}

// muxClient is one connection with many streams, each of which is followed by
// the next as soon as it is answered.
type muxClient struct {
	gen         *generator
	to          *target
	order       *muxOrder
	mux         *mux
	first, head []byte // the fields of the first request, and of all others
	next        uint32 // stream
	open        map[uint32]*muxCall
	free        []*muxCall
}

// muxCall is a stream under way.
type muxCall struct {
	headed, ended bool
	got           int
}

func newMuxClient(g *generator, t *target) (*muxClient, error) {
	fd, err := dial(t.port)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", t.name, err)
	}
	code := newCoder()
	c := &muxClient{gen: g, to: t, next: 1, open: map[uint32]*muxCall{}}
	c.first, c.head = code.block(g.row.mux.fields...), code.block(g.row.mux.fields...)
	c.mux = newMux(c)
	c.mux.sock, err = g.loop.add(fd, c)
	return c, err
}

// begin opens the connection and its streams.
func (c *muxClient) begin() error {
	c.mux.out = append(c.mux.out, preface...)
	c.mux.hello(backendStreams)
	for range c.gen.row.streams {
		c.ask()
	}
	return c.mux.flush()
}

func (c *muxClient) ask() {
	call := &muxCall{}
	if n := len(c.free); n > 0 {
		call, c.free = c.free[n-1], c.free[:n-1]
		*call = muxCall{}
	}
	head := c.head
	if c.next == 1 {
		head = c.first
	}
	c.open[c.next] = call
	content := c.gen.row.mux.content
	c.mux.block(c.next, head, content == nil)
	if content != nil {
		c.mux.content(c.next, content, true)
	}
	c.next += 2
}

func (c *muxClient) fields(stream uint32, f *fields, end bool) error {
	call, ex := c.open[stream], c.gen.row.mux
	switch {
	case call == nil:
		return fmt.Errorf("fields on stream %d, which is not open", stream)
	case !call.headed:
		if f.status != "200" || f.length != -1 && f.length != ex.answer {
			return fmt.Errorf("answered status %q with a length of %d after %d answers", f.status, f.length, c.to.count.Load())
		}
		call.headed = true
	case !ex.grpc || !end || f.grpcStatus != "0":
		return fmt.Errorf("trailers with grpc-status %q", f.grpcStatus)
	default:
		call.ended = true
	}
	if end {
		return c.answered(stream, call)
	}
	return nil
}

func (c *muxClient) body(stream uint32, n int, end bool) error {
	call := c.open[stream]
	if call == nil || !call.headed {
		return fmt.Errorf("content on stream %d, which has no head", stream)
	}
	call.got += n
	if end {
		return c.answered(stream, call)
	}
	return nil
}

func (c *muxClient) answered(stream uint32, call *muxCall) error {
	if ex := c.gen.row.mux; call.got != ex.answer || ex.grpc != call.ended {
		return fmt.Errorf("answered with %d bytes, want %d (and trailers: %v, want %v)", call.got, ex.answer, call.ended, ex.grpc)
	}
	delete(c.open, stream)
	c.free = append(c.free, call)
	c.to.count.Add(1)
	if c.gen.row.load == once {
		return c.order.following()
	}
	c.ask()
	return nil
}

func (c *muxClient) data(_ *sock, b []byte) (int, error) {
	if c.next == 1 {
		return 0, nil // a server may speak first, but the preface comes before all of ours
	}
	used, err := c.mux.read(b)
	if err == nil {
		err = c.mux.flush()
	}
	return used, err
}

func (c *muxClient) skipped(*sock) error { return errors.New("nothing to skip") }

func (c *muxClient) gone(_ *sock, err error) { c.gen.lost(c.to, err) }

// muxOrder lets all streams of all connections ask again at once; with once each
// connection asks once, a few at a time.
type muxOrder struct {
	clients []*muxClient
	once    bool
	next    int
}

func newMuxOrder(g *generator) (*muxOrder, error) {
	o := &muxOrder{once: g.row.load == once}
	for range g.row.conns {
		for _, t := range g.targets {
			c, err := newMuxClient(g, t)
			if err != nil {
				return nil, err
			}
			c.order = o
			o.clients = append(o.clients, c)
		}
	}
	return o, nil
}

func (o *muxOrder) begin() error {
	first := len(o.clients)
	if o.once {
		first = min(onceAtATime, first)
	}
	for range first {
		if err := o.following(); err != nil {
			return err
		}
	}
	return nil
}

// following lets the next connection begin, if there is one.
func (o *muxOrder) following() error {
	if o.next == len(o.clients) {
		return nil
	}
	o.next++
	return o.clients[o.next-1].begin()
}

func (o *muxOrder) answered(*client) error { return nil }
func (o *muxOrder) tick() error            { return nil }
func (o *muxOrder) close()                 {}
