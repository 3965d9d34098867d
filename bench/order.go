package main

import (
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// freeOrder lets every connection ask again as soon as it is answered: each
// target has as much to do as it can take. Handing requests out evenly instead
// would starve the cheaper proxy, which then does one request a wake-up and
// looks up to twice as dear as it is under load.
type freeOrder struct{ g *generator }

func (o *freeOrder) begin() error {
	for i := range o.g.row.conns {
		for _, t := range o.g.targets {
			if err := t.clients[i].ask(); err != nil {
				return err
			}
		}
	}
	return nil
}

func (o *freeOrder) answered(c *client) error { return c.ask() }
func (o *freeOrder) tick() error              { return nil }
func (o *freeOrder) close()                   {}

// turnsOrder lets one target work at a time, so that bulk transfers do not
// compete for memory bandwidth.
type turnsOrder struct {
	g    *generator
	turn int
	open int
}

func newTurns(g *generator) *turnsOrder { return &turnsOrder{g: g} }

func (o *turnsOrder) begin() error {
	t := o.g.targets[o.turn]
	o.open = len(t.clients)
	for _, c := range t.clients {
		if err := c.ask(); err != nil {
			return err
		}
	}
	return nil
}

func (o *turnsOrder) answered(*client) error {
	if o.open--; o.open > 0 {
		return nil
	}
	o.turn = (o.turn + 1) % len(o.g.targets)
	return o.begin()
}

func (o *turnsOrder) tick() error { return nil }
func (o *turnsOrder) close()      {}

// onceAtATime is how many connections that ask once do so at the same time.
const onceAtATime = 16

// onceOrder lets each connection ask once, a few at a time.
type onceOrder struct {
	g    *generator
	next int
}

func (o *onceOrder) begin() error {
	for range min(onceAtATime, len(o.g.targets[0].clients)) {
		if err := o.answered(nil); err != nil {
			return err
		}
	}
	return nil
}

func (o *onceOrder) answered(*client) error {
	all := o.g.targets[0].clients
	if o.next == len(all) {
		return nil
	}
	o.next++
	return all[o.next-1].ask()
}

func (o *onceOrder) tick() error { return nil }
func (o *onceOrder) close()      {}

// pacer sends at fixed times, round the connections. A request that finds all of
// them busy waits in line, and its delay counts from when it was due.
type pacer struct {
	g     *generator
	timer int
	start time.Time
	every time.Duration // between two requests, whoever they go to
	sent  int
	lines []line // by target
}

// line is what is due at a target that has no idle connection.
type line struct {
	idle []*client
	due  []time.Duration
}

func newPacer(g *generator) (*pacer, error) {
	fd, err := unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_CLOEXEC|unix.TFD_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("timerfd: %w", err)
	}
	p := &pacer{g: g, timer: fd, every: time.Second / time.Duration(g.row.rate*len(g.targets))}
	for _, t := range g.targets {
		p.lines = append(p.lines, line{idle: append([]*client(nil), t.clients...)})
	}
	return p, g.loop.watch(fd)
}

func (p *pacer) begin() error {
	p.start = time.Now()
	ts := unix.NsecToTimespec(int64(p.every))
	return unix.TimerfdSettime(p.timer, 0, &unix.ItimerSpec{Interval: ts, Value: ts}, nil)
}

func (p *pacer) tick() error {
	var count [8]byte
	if _, err := unix.Read(p.timer, count[:]); err != nil {
		return nil // somebody else's wake-up
	}
	now := time.Since(p.start)
	for due := p.every * time.Duration(p.sent+1); due <= now; due += p.every {
		k := p.sent % len(p.g.targets)
		p.sent++
		l := &p.lines[k]
		if len(l.idle) == 0 {
			l.due = append(l.due, due)
			continue
		}
		c := l.idle[0]
		l.idle = l.idle[1:]
		c.due = due
		if err := c.ask(); err != nil {
			return err
		}
	}
	return nil
}

func (p *pacer) answered(c *client) error {
	c.to.delays.add(time.Since(p.start) - c.due)
	for k, t := range p.g.targets {
		if t != c.to {
			continue
		}
		l := &p.lines[k]
		if len(l.due) > 0 {
			c.due = l.due[0]
			l.due = l.due[1:]
			return c.ask()
		}
		l.idle = append(l.idle, c)
	}
	return nil
}

func (p *pacer) close() { unix.Close(p.timer) }
