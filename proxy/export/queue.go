// Package export sends what the proxy tells about its traffic (spans, log entries) to
// services that collect it. Nobody waits for them: entries gather in a bounded buffer, a
// goroutine sends them in batches, and what finds no room is dropped and counted.
//
// What entries look like is for those who make them.
package export

import (
	"context"
	"sync"
	"time"
)

// Options say when a Queue sends. A batch is due when one of them says so.
type Options struct {
	Interval func() time.Duration // after the first entry
	Entries  func() int           // that there are; nil: their number does not matter
	Bytes    int                  // that they take; 0: does not matter
	// Room is how many bytes may wait, those that are being sent included; 0 is 4 MiB. MaxEntries
	// is the same for entries; 0 is no limit.
	Room, MaxEntries int
	// Send sends a batch. It is called by one goroutine, and lent its bytes. timed tells
	// that the interval was over.
	Send func(ctx context.Context, b Batch)
	// Dropped is told of entries that found no room; nil: nobody is.
	Dropped func(n int)
}

// Batch is entries one after another.
type Batch struct {
	Bytes []byte
	N     int
	Timed bool // they were sent since they were old enough
}

// defaultRoom is how much may wait where nobody says.
const defaultRoom = 4 << 20

// keep is how much memory is kept for later.
const keep = 256 << 10

// Queue gathers entries. It is safe for concurrent use.
type Queue struct {
	o Options

	mu      sync.Mutex
	buf     []byte
	n       int
	sending Batch // its bytes are the sender's
	spare   []byte
	closing bool
	idle    bool // nobody sends: the next entry begins

	full chan struct{}
	done chan struct{}
	ctx  context.Context
	stop context.CancelFunc
}

// NewQueue returns an empty queue.
func NewQueue(o Options) *Queue {
	if o.Room <= 0 {
		o.Room = defaultRoom
	}
	q := &Queue{o: o, idle: true, full: make(chan struct{}, 1), done: make(chan struct{})}
	q.ctx, q.stop = context.WithCancel(context.Background())
	return q
}

// Put adds an entry, which is lent, or drops it.
func (q *Queue) Put(entry []byte) {
	q.mu.Lock()
	if q.closing || len(q.buf)+len(q.sending.Bytes)+len(entry) > q.o.Room || q.o.MaxEntries > 0 && q.n+q.sending.N >= q.o.MaxEntries {
		q.mu.Unlock()
		if q.o.Dropped != nil {
			q.o.Dropped(1)
		}
		return
	}
	if q.buf == nil {
		q.buf, q.spare = q.spare, nil
	}
	q.buf = append(q.buf, entry...)
	q.n++
	begin := q.idle
	q.idle = false
	due := q.due()
	q.mu.Unlock()
	if begin {
		go q.run()
	}
	if due {
		select {
		case q.full <- struct{}{}:
		default:
		}
	}
}

// due reports whether there is enough for a batch. The caller holds q.mu.
func (q *Queue) due() bool {
	return q.o.Entries != nil && q.n >= q.o.Entries() || q.o.Bytes > 0 && len(q.buf) >= q.o.Bytes || q.closing
}

// run sends batches until there is nothing left.
func (q *Queue) run() {
	timer := time.NewTimer(q.o.Interval())
	defer timer.Stop()
	for {
		timed := false
		q.mu.Lock()
		due := q.due()
		q.mu.Unlock()
		if !due {
			select {
			case <-timer.C:
				timed = true
			case <-q.full:
				continue // it may have been for the batch before
			}
		}
		if !q.send(timed) {
			return
		}
		timer.Reset(q.o.Interval())
	}
}

// send sends what there is, and reports whether something has come meanwhile.
func (q *Queue) send(timed bool) (more bool) {
	q.mu.Lock()
	b := Batch{q.buf, q.n, timed}
	q.buf, q.n, q.sending = nil, 0, b
	q.mu.Unlock()
	if b.N > 0 {
		q.o.Send(q.ctx, b)
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	q.sending = Batch{}
	if cap(b.Bytes) <= keep {
		q.spare = b.Bytes[:0]
	}
	if q.n > 0 {
		return true
	}
	if q.idle = true; q.closing {
		close(q.done)
	}
	return false
}

// Close ends the queue: what is in it is still sent, until ctx ends. It reports whether all
// was, so that nothing is sent any more. It may be called once.
func (q *Queue) Close(ctx context.Context) bool {
	defer q.stop()
	q.mu.Lock()
	idle := q.idle
	q.closing = true
	q.mu.Unlock()
	if idle {
		return true
	}
	select {
	case q.full <- struct{}{}:
	default:
	}
	select {
	case <-q.done:
		return true
	case <-ctx.Done():
		return false
	}
}
