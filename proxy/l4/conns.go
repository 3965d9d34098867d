package l4

import (
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"
)

// conns is a list of live connections: those of one chain, or those of a listener
// that have no chain yet.
type conns struct {
	mu       sync.Mutex
	head     *link
	n        int
	draining bool   // new connections are told at once
	empty    func() // called, once, when the last one has gone after whenEmpty

	slope atomic.Pointer[slope] // of a gradual drain, nil: there is none
}

// slope is a gradual drain: the chance that a connection ends with what it sends next
// grows from nothing to certainty.
type slope struct {
	begun time.Time
	over  time.Duration // more than 0
}

// slips draws whether a connection ends now.
func (s *slope) slips(now time.Time) bool {
	return now.Sub(s.begun) > time.Duration(rand.Int64N(int64(s.over)))
}

// link is a connection's place in a list.
type link struct {
	c          *conn
	prev, next *link
}

func (l *conns) add(k *link) {
	l.mu.Lock()
	if k.next = l.head; k.next != nil {
		k.next.prev = k
	}
	l.head = k
	l.n++
	draining := l.draining
	l.mu.Unlock()
	if draining {
		k.c.drain()
	}
	if k.c.l.m.closing.Load() { // Close may have looked before
		k.c.cut()
	}
}

func (l *conns) remove(k *link) {
	l.mu.Lock()
	if k.prev != nil {
		k.prev.next = k.next
	} else {
		l.head = k.next
	}
	if k.next != nil {
		k.next.prev = k.prev
	}
	k.prev, k.next = nil, nil
	l.n--
	var f func()
	if l.n == 0 {
		f, l.empty = l.empty, nil
	}
	l.mu.Unlock()
	if f != nil {
		f()
	}
}

// whenEmpty calls f when the last connection has gone, at once if there is none.
func (l *conns) whenEmpty(f func()) {
	l.mu.Lock()
	if l.n > 0 {
		l.empty, f = f, nil
	}
	l.mu.Unlock()
	if f != nil {
		f()
	}
}

// each calls f with the connections that are live now, outside the lock.
func (l *conns) each(f func(*conn)) {
	l.mu.Lock()
	all := make([]*conn, 0, l.n)
	for k := l.head; k != nil; k = k.next {
		all = append(all, k.c)
	}
	l.mu.Unlock()
	for _, c := range all {
		f(c)
	}
}

// drain tells all connections, and those to come, to finish what is under way.
func (l *conns) drain() {
	l.mu.Lock()
	l.draining = true
	l.mu.Unlock()
	l.each((*conn).drain)
}

// encourage ends a drain for the connections to come.
func (l *conns) encourage() {
	l.mu.Lock()
	l.draining = false
	l.mu.Unlock()
}
