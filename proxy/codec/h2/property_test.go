package h2

import (
	"fmt"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/mecha-mesh/mecha/proxy/codec"
	"github.com/mecha-mesh/mecha/proxy/header"
	"github.com/mecha-mesh/mecha/proxy/netio"
)

// torn is a connection whose reads and writes are in random pieces.
type torn struct {
	net.Conn
	mu  sync.Mutex
	rnd *rand.Rand
}

func (c *torn) piece(n int) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return 1 + c.rnd.IntN(min(n, 1+c.rnd.IntN(5000)))
}

func (c *torn) Read(p []byte) (int, error) { return c.Conn.Read(p[:c.piece(len(p))]) }

func (c *torn) Write(p []byte) (n int, err error) {
	for n < len(p) && err == nil {
		var m int
		m, err = c.Conn.Write(p[n : n+c.piece(len(p)-n)])
		n += m
	}
	return n, err
}

// exchange is one that a test has made up.
type exchange struct {
	fields, trailers []string // names and values
	body             string
	pieces           []int // of the body, as written
	reset            int   // after so many of them; -1: not
}

func someText(r *rand.Rand, n int) string {
	b := make([]byte, r.IntN(n))
	for i := range b {
		b[i] = byte('!' + r.IntN(90))
	}
	return string(b)
}

func someExchange(r *rand.Rand) *exchange {
	x := &exchange{reset: -1}
	for range r.IntN(12) {
		name := []string{"x-a", "x-b", "user-agent", "accept", "cookie", "authorization", "x-" + strings.ToLower(someText(r, 2)+"n")}[r.IntN(6)]
		if name == "cookie" && slices.Contains(x.fields, name) {
			continue // they become one
		}
		x.fields = append(x.fields, name, someText(r, 1+r.IntN(2000)))
	}
	for n := r.IntN(5); n > 0; n-- {
		x.pieces = append(x.pieces, 1+r.IntN(1+r.IntN(40_000)))
	}
	var body strings.Builder
	for _, n := range x.pieces {
		for range n {
			body.WriteByte(byte(r.Uint32()))
		}
	}
	x.body = body.String()
	if r.IntN(3) == 0 && len(x.pieces) > 0 {
		x.trailers = []string{"x-sum", someText(r, 100), "x-more", someText(r, 3000)}
	}
	if r.IntN(6) == 0 {
		x.reset = r.IntN(len(x.pieces) + 1)
	}
	return x
}

// write writes the request.
func (x *exchange) write(st codec.ClientStream) error {
	q := get(":method", "POST")
	for i := 0; i < len(x.fields); i += 2 {
		q.Add(x.fields[i], x.fields[i+1])
	}
	if err := st.WriteHeaders(q, len(x.pieces) == 0 && x.reset < 0); err != nil {
		return err
	}
	at := 0
	for i, n := range x.pieces {
		if i == x.reset {
			break
		}
		end := i == len(x.pieces)-1 && x.trailers == nil && x.reset < 0
		if err := st.WriteData(bufOf(x.body[at:at+n]), end); err != nil {
			return err
		}
		at += n
	}
	if x.reset >= 0 {
		st.Reset(codec.ResetCancel)
		return nil
	}
	if x.trailers == nil {
		return nil
	}
	var m header.Map
	for i := 0; i < len(x.trailers); i += 2 {
		m.Add(x.trailers[i], x.trailers[i+1])
	}
	return st.WriteTrailers(&m)
}

// run makes the exchange and compares what comes back with what was sent.
func (x *exchange) run(c *ClientConn) error {
	st, err := c.Open(noContext)
	if err != nil {
		return err
	}
	defer st.Release()
	var all sync.WaitGroup
	defer all.Wait()
	wrote := make(chan error, 1)
	all.Go(func() { wrote <- x.write(st) })
	if x.reset >= 0 {
		// What nobody reads would keep the window of the connection from all others.
		all.Go(func() { _, _ = read(st) })
		return <-wrote
	}
	r, err := read(st)
	if err != nil {
		st.Reset(codec.ResetCancel)
		return fmt.Errorf("%w; writing: %v", err, <-wrote)
	}
	if r.body != x.body {
		return fmt.Errorf("%d bytes came back of %d, or others", len(r.body), len(x.body))
	}
	return same(&r.head, x.fields, &r.trailers, x.trailers)
}

// same reports whether the fields are there, in order.
func same(head *header.Map, fields []string, trailers *header.Map, more []string) error {
	collect := func(m *header.Map) (s []string) {
		for name, value := range m.All() {
			if !strings.HasPrefix(name, ":") && !slices.Contains([]string{"x-method", "x-path", "x-scheme", "x-authority"}, name) {
				s = append(s, name, value)
			}
		}
		return s
	}
	if got := collect(head); !slices.Equal(got, fields) {
		return fmt.Errorf("fields are %q, were %q", got, fields)
	}
	if got := collect(trailers); !slices.Equal(got, more) {
		return fmt.Errorf("trailers are %q, were %q", got, more)
	}
	return nil
}

// someOptions have windows and tables of all sizes.
func someOptions(r *rand.Rand, st *Stats) Options {
	table := []uint32{0, 100, 4096, 60_000}[r.IntN(4)]
	return Options{Stats: st, HpackTableSize: &table, InitialStreamWindow: uint32(65535 + r.IntN(100_000)),
		InitialConnectionWindow: uint32(65535 + r.IntN(100_000)), MaxHeadersKB: 64}
}

// TestProperty: two codecs that talk to each other change nothing of what they carry,
// however their bytes are cut into pieces, whatever their windows and tables are, and
// whichever streams are given up; and they hold nothing at the end.
func TestProperty(t *testing.T) {
	for seed := range uint64(12) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) { property(t, seed) })
	}
}

func property(t *testing.T, seed uint64) {
	r := rand.New(rand.NewPCG(seed, 2))
	a, b := pair(t)
	if seed%3 > 0 {
		a, b = &torn{Conn: a, rnd: rand.New(rand.NewPCG(seed, 3))}, &torn{Conn: b, rnd: rand.New(rand.NewPCG(seed, 4))}
	}
	var ours, theirs Stats
	s := NewServer(netio.NewConn(b), ServerOptions{Options: someOptions(r, &theirs)})
	var all, streams sync.WaitGroup
	all.Go(func() { _ = acceptAll(s, echo) })
	c := NewClient(netio.NewConn(a), ClientOptions{Options: someOptions(r, &ours)})
	for range 8 {
		plan := make([]*exchange, 4)
		for i := range plan {
			plan[i] = someExchange(r)
		}
		streams.Go(func() {
			for _, x := range plan {
				if err := x.run(c); err != nil {
					t.Error(err)
				}
			}
		})
	}
	streams.Wait()
	_ = c.Close()
	all.Wait()
	settled(t, &c.conn, &ours)
	settled(t, &s.conn, &theirs)
}
