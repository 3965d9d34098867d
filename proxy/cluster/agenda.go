package cluster

import (
	"sync"
	"time"
)

// agenda runs what is to be done later: one timer, however much there is to do, and
// none when there is nothing.
type agenda struct {
	mu     sync.Mutex
	heap   []*event // by time
	timer  *time.Timer
	armed  time.Time // when the timer fires; zero is not set
	closed bool
}

// event is one thing to do. Its owner makes it once; run is called without a lock, on
// the timer's goroutine, and must not wait for long.
type event struct {
	run   func()
	at    time.Time
	index int // in the heap plus one; 0 is not in it
}

// set puts e on the agenda, or moves it.
func (a *agenda) set(e *event, at time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.closed {
		return
	}
	e.at = at
	if e.index == 0 {
		a.heap = append(a.heap, e)
		e.index = len(a.heap)
	}
	a.up(e.index - 1)
	a.down(e.index - 1)
	a.arm()
}

// cancel takes e off the agenda. It may be running at this moment.
func (a *agenda) cancel(e *event) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.take(e)
}

// close forgets everything; later calls of set do nothing.
func (a *agenda) close() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.closed = true
	for _, e := range a.heap {
		e.index = 0
	}
	a.heap = nil
	if a.timer != nil {
		a.timer.Stop()
	}
}

func (a *agenda) take(e *event) {
	if e.index == 0 {
		return
	}
	i, last := e.index-1, len(a.heap)-1
	a.swap(i, last)
	a.heap[last] = nil
	a.heap = a.heap[:last]
	e.index = 0
	if i < last {
		a.up(i)
		a.down(i)
	}
}

// arm sets the timer for the first event, if it is not set for then or earlier.
func (a *agenda) arm() {
	if len(a.heap) == 0 {
		return
	}
	at := a.heap[0].at
	if !a.armed.IsZero() && !at.Before(a.armed) {
		return
	}
	a.armed = at
	if a.timer == nil {
		a.timer = time.AfterFunc(time.Until(at), a.fire)
		return
	}
	a.timer.Reset(time.Until(at))
}

func (a *agenda) fire() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.armed = time.Time{}
	for len(a.heap) > 0 && !a.heap[0].at.After(time.Now()) {
		e := a.heap[0]
		a.take(e)
		a.mu.Unlock()
		e.run()
		a.mu.Lock()
	}
	if !a.closed {
		a.arm()
	}
}

func (a *agenda) swap(i, j int) {
	a.heap[i], a.heap[j] = a.heap[j], a.heap[i]
	a.heap[i].index, a.heap[j].index = i+1, j+1
}

func (a *agenda) up(i int) {
	for i > 0 {
		parent := (i - 1) / 2
		if !a.heap[i].at.Before(a.heap[parent].at) {
			return
		}
		a.swap(i, parent)
		i = parent
	}
}

func (a *agenda) down(i int) {
	for {
		least := i
		for c := 2*i + 1; c <= 2*i+2 && c < len(a.heap); c++ {
			if a.heap[c].at.Before(a.heap[least].at) {
				least = c
			}
		}
		if least == i {
			return
		}
		a.swap(i, least)
		i = least
	}
}
