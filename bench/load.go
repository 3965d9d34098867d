package main

import (
	"errors"
	"fmt"
	"runtime"
	"sync/atomic"
	"time"
)

// generator drives all targets from one thread, each with the same load.
type generator struct {
	row     *row
	loop    *loop
	targets []*target
	order   scheduler
	stop    atomic.Bool
	done    chan struct{}
	failed  atomic.Pointer[error] // told from other goroutines
	err     error                 // why it ended by itself; read after done
}

// target is one proxy under load.
type target struct {
	name    string
	port    int
	clients []*client
	count   atomic.Int64 // answered requests
	delays  delays       // with paced
}

// client is one connection to a proxy.
type client struct {
	gen   *generator
	to    *target
	index int // among the target's
	sock  *sock
	due   time.Duration // paced: when the request under way should have left
	busy  bool
}

// scheduler decides who sends when.
type scheduler interface {
	begin() error
	// answered tells that a client's request is answered.
	answered(c *client) error
	// tick is called when the scheduler's descriptor is readable.
	tick() error
	close()
}

func newGenerator(r *row, targets []*target) (*generator, error) {
	l, err := newLoop()
	if err != nil {
		return nil, err
	}
	g := &generator{row: r, loop: l, targets: targets, done: make(chan struct{})}
	if r.tls != tlsNot {
		g.order = newTLSOrder(g)
		return g, nil
	}
	if r.mux != nil {
		g.order, err = newMuxOrder(g)
		return g, err
	}
	for _, t := range targets {
		for i := range r.conns {
			fd, err := dial(t.port)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", t.name, err)
			}
			c := &client{gen: g, to: t, index: i}
			if c.sock, err = l.add(fd, c); err != nil {
				return nil, err
			}
			t.clients = append(t.clients, c)
		}
	}
	switch r.load {
	case saturated:
		g.order = &freeOrder{g: g}
	case turns:
		g.order = newTurns(g)
	case once:
		g.order = &onceOrder{g: g}
	case paced:
		if g.order, err = newPacer(g); err != nil {
			return nil, err
		}
	}
	return g, nil
}

// start lets the load run until close.
func (g *generator) start() {
	go func() {
		defer close(g.done)
		runtime.LockOSThread()
		g.err = g.order.begin()
		for g.err == nil && !g.stop.Load() {
			if err := g.loop.turn(50, func(int) error { return g.order.tick() }); err != nil {
				g.err = err
			}
			if err := g.failed.Load(); err != nil {
				g.err = *err
			}
		}
	}()
}

// close ends the load and says what went wrong on the way.
func (g *generator) close() error {
	g.stop.Store(true)
	<-g.done
	g.order.close()
	g.loop.close()
	return g.err
}

func (c *client) ask() error {
	c.busy = true
	if !c.gen.row.exchange.http {
		c.sock.skip = c.gen.row.exchange.answer
	}
	return c.sock.send(c.gen.row.exchange.request, 0)
}

var okStatus = []byte("HTTP/1.1 200")

func (c *client) data(s *sock, b []byte) (int, error) {
	ex := &c.gen.row.exchange
	if !ex.http || !c.busy {
		return 0, fmt.Errorf("sent %d bytes nobody asked for", len(b))
	}
	head, length, err := httpHead(b)
	if head == 0 || err != nil {
		return 0, err
	}
	if string(b[:len(okStatus)]) != string(okStatus) || length != ex.answer {
		return 0, fmt.Errorf("answered %q", b[:min(len(b), 200)])
	}
	s.skip = length
	return head, nil
}

func (c *client) skipped(*sock) error {
	c.busy = false
	c.to.count.Add(1)
	return c.gen.order.answered(c)
}

func (c *client) gone(_ *sock, err error) { c.gen.lost(c.to, err) }

// lost ends the load: no proxy may close a connection or answer wrongly.
func (g *generator) lost(t *target, err error) {
	if err == nil {
		err = errors.New("closed the connection")
	}
	if g.err == nil {
		g.err = fmt.Errorf("%s %w", t.name, err)
	}
}
