package l4

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/mecha-mesh/mecha/proxy/buffer"
	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/meta"
)

// seer is a filter that looks at the data of both directions and leaves it alone.
type seer struct {
	mu   sync.Mutex
	busy bool
	in   int
	out  int
}

func (s *seer) Reset() { s.in, s.out = 0, 0 }

// alone fails where two hooks of one connection run at the same time.
func (s *seer) alone() {
	s.mu.Lock()
	if s.busy {
		panic("two hooks at once")
	}
	s.busy = true
	s.mu.Unlock()
}

func (s *seer) done() {
	s.mu.Lock()
	s.busy = false
	s.mu.Unlock()
}

func (s *seer) OnRead(_ *filter.Conn, b *buffer.Buf, _ bool) error {
	s.alone()
	defer s.done()
	s.in += b.Len()
	return nil
}

func (s *seer) OnWrite(_ *filter.Conn, b *buffer.Buf, _ bool) error {
	s.alone()
	defer s.done()
	s.out += b.Len()
	return nil
}

// relayTo returns a listener that relays to an address, with or without a filter
// that looks at the data.
func relayTo(t testing.TB, m *Manager, to meta.Addr, hooks bool, idle time.Duration) (*Listener, <-chan filter.RelayResult) {
	t.Helper()
	res := make(chan filter.RelayResult, 100)
	c := &Chain{}
	if hooks {
		c.Filters = append(c.Filters, filterOf("seer", func() filter.Network { return &seer{} }))
	}
	c.Filters = append(c.Filters, filterOf("forward", func() filter.Network { return &forward{to, idle, res} }))
	return setListener(t, m, &Spec{Name: fmt.Sprint("relay", hooks), Addresses: []Address{loopback()}, Default: c}), res
}

// TestRelayProperty: whatever the chunks and whenever a direction ends, both sides
// get what the other one sent, and its end.
func TestRelayProperty(t *testing.T) {
	for _, hooks := range []bool{false, true} {
		for seed := range uint64(24) {
			t.Run(fmt.Sprintf("hooks=%v/%d", hooks, seed), func(t *testing.T) {
				t.Parallel()
				r := rand.New(rand.NewPCG(seed, 7))
				up, down := randomScript(r), randomScript(r)
				got := make(chan []byte, 1)
				to := server(t, func(c *net.TCPConn) {
					c.SetDeadline(time.Now().Add(patience))
					var played sync.WaitGroup
					played.Go(func() { down.play(c) })
					b, err := io.ReadAll(c)
					played.Wait()
					if err != nil {
						t.Error(err)
					}
					got <- b
				})
				m := newTestManager(t, Options{})
				l, res := relayTo(t, m, to, hooks, 0)
				c := dial(t, l)
				go up.play(c)
				if b, err := io.ReadAll(c); err != nil || !bytes.Equal(b, down.bytes()) {
					t.Fatalf("downstream got %d bytes of %d, %v", len(b), len(down.bytes()), err)
				}
				if b := <-got; !bytes.Equal(b, up.bytes()) {
					t.Errorf("upstream got %d bytes of %d", len(b), len(up.bytes()))
				}
				want := filter.RelayResult{Received: int64(len(up.bytes())), Sent: int64(len(down.bytes()))}
				if r := <-res; r != want {
					t.Errorf("result %+v, want %+v", r, want)
				}
			})
		}
	}
}

// script is what one side sends, in chunks, before it ends its direction.
type script [][]byte

func randomScript(r *rand.Rand) (s script) {
	sizes := []int{0, 10, 3000, 40_000, 300_000}
	most := sizes[r.IntN(len(sizes))]
	for range r.IntN(30) {
		p := make([]byte, r.IntN(most+1))
		for i := range p {
			p[i] = byte(r.Uint32())
		}
		s = append(s, p)
	}
	return s
}

func (s script) bytes() []byte { return bytes.Join(s, nil) }

func (s script) play(c *net.TCPConn) {
	for _, p := range s {
		c.Write(p)
	}
	c.CloseWrite()
}

func TestRelayPassesResetsOn(t *testing.T) {
	for _, hooks := range []bool{false, true} {
		m := newTestManager(t, Options{})
		to := server(t, func(c *net.TCPConn) {
			io.WriteString(c, "hello")
			io.ReadFull(c, make([]byte, 1))
			c.SetLinger(0)
		})
		l, res := relayTo(t, m, to, hooks, 0)
		c := dial(t, l)
		io.ReadFull(c, make([]byte, 5))
		c.Write([]byte("x"))
		if _, err := io.ReadAll(c); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("upstream was reset, downstream sees %v", err)
		}
		if r := <-res; r.Ended != filter.Upstream || !r.Reset || r.Sent != 5 || r.Received != 1 {
			t.Errorf("result %+v", r)
		}

		seen := make(chan error, 1)
		to = server(t, func(c *net.TCPConn) {
			io.WriteString(c, "hello")
			_, err := io.ReadAll(c)
			seen <- err
		})
		m = newTestManager(t, Options{})
		l, res = relayTo(t, m, to, hooks, 0)
		c = dial(t, l)
		io.ReadFull(c, make([]byte, 5))
		c.SetLinger(0)
		c.Close()
		if err := <-seen; !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("downstream was reset, upstream sees %v", err)
		}
		if r := <-res; r.Ended != filter.Downstream || !r.Reset {
			t.Errorf("result %+v", r)
		}
	}
}

func TestRelayIdle(t *testing.T) {
	for _, hooks := range []bool{false, true} {
		t.Run(fmt.Sprintf("hooks=%v", hooks), func(t *testing.T) {
			t.Parallel()
			const idle = 400 * time.Millisecond
			to := echoServer(t)
			var c *net.TCPConn
			var res <-chan filter.RelayResult
			var begin time.Time
			for c == nil { // again where the machine was too busy for this test to be active in time
				var l *Listener
				l, res = relayTo(t, newTestManager(t, Options{}), to, hooks, idle)
				begin = time.Now()
				if c = dial(t, l); !active(t, c, idle) {
					c = nil
				}
			}
			if b, err := io.ReadAll(c); err != nil || len(b) > 0 {
				t.Errorf("read %q, %v", b, err)
			}
			if d := time.Since(begin); d < idle*3/2 {
				t.Errorf("ended after %v", d)
			}
			if r := <-res; !r.Timeout || r.Reset || r.Received != 4 || r.Sent != 4 {
				t.Errorf("result %+v", r)
			}
		})
	}
}

// active sends now and then, which moves the end of a relay away. It reports false if it
// came too late for that.
func active(t *testing.T, c *net.TCPConn, idle time.Duration) bool {
	last := time.Now()
	for range 4 {
		c.Write([]byte("x"))
		io.ReadFull(c, make([]byte, 1))
		c.SetReadDeadline(time.Now().Add(idle / 4))
		_, err := c.Read(make([]byte, 1))
		if time.Since(last) > idle/2 {
			return false
		}
		if err == io.EOF {
			t.Fatal("ended while active")
		}
		last = time.Now()
	}
	c.SetReadDeadline(time.Now().Add(patience))
	return true
}

// TestRelayIdleWhileNobodyReads: silence is also that a full socket stays full.
func TestRelayIdleWhileNobodyReads(t *testing.T) {
	t.Parallel()
	m := newTestManager(t, Options{})
	stuck := make(chan struct{})
	defer close(stuck)
	to := server(t, func(*net.TCPConn) { <-stuck })
	l, res := relayTo(t, m, to, false, 2*time.Second)
	c := dial(t, l)
	go func() {
		for p := make([]byte, 1<<20); ; {
			if _, err := c.Write(p); err != nil {
				return
			}
		}
	}()
	if r := <-res; !r.Timeout || r.Received == 0 {
		t.Errorf("result %+v", r)
	}
}

// TestRelayAllocs: the whole relay, both goroutines, allocates nothing for a chunk.
func TestRelayAllocs(t *testing.T) {
	if raceEnabled || buffer.Invariants {
		t.Skip("the race detector drops pooled memory, the invariants record stacks")
	}
	for _, hooks := range []bool{false, true} {
		for _, size := range []int{64, 500_000} {
			m := newTestManager(t, Options{})
			l, _ := relayTo(t, m, echoServer(t), hooks, time.Hour)
			c := dial(t, l)
			out, in := make([]byte, size), make([]byte, size)
			// The test's own writer must not count either: it lives before the measurement.
			write, wrote := make(chan struct{}), make(chan struct{})
			defer close(write)
			go func() {
				for range write {
					c.Write(out)
					wrote <- struct{}{}
				}
			}()
			chunk := func() {
				write <- struct{}{}
				io.ReadFull(c, in)
				<-wrote
			}
			for range 30 {
				chunk()
			}
			if n := testing.AllocsPerRun(200, chunk); n != 0 {
				t.Errorf("hooks %v: %v allocations for a chunk of %d bytes", hooks, n, size)
			}
			c.Close()
		}
	}
}
