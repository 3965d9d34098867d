package stats

import (
	"sync"
	"sync/atomic"
	"time"
)

// Recent counts what has happened, and how much of it was good, over a sliding time, step
// by step. What it says is exact but for what happens
// in the moment in which a cell ends: that may be missing until the next one does. It takes
// no lock, but for going on to the next cell.
type Recent struct {
	begin time.Time
	cell  time.Duration

	// The sums without those of the cell of now, and the number of that cell.
	total, good, now atomic.Uint64
	oldest           atomic.Uint64 // number of the oldest cell that has counted something

	mu    sync.Mutex   // for moving on
	cells []recentCell // a ring, by number
}

type recentCell struct{ total, good atomic.Uint64 }

// maxRecentCells bounds the memory and the work of moving on.
const maxRecentCells = 60

// NewRecent returns a count over d, which is rounded to steps and at least one of them.
// There are 60 steps at most: they are longer where d is.
func NewRecent(d, step time.Duration, now time.Time) *Recent {
	w := &Recent{begin: now, cell: step}
	n := d / step
	if d%step >= step-d%step {
		n++
	}
	if n > maxRecentCells {
		w.cell, n = d/maxRecentCells, maxRecentCells
	}
	w.cells = make([]recentCell, max(n, 1))
	return w
}

// Add counts one more.
func (w *Recent) Add(t time.Time, good bool) {
	c := &w.cells[w.move(t)%uint64(len(w.cells))]
	if good {
		c.good.Add(1)
	}
	c.total.Add(1)
}

// Sums returns how much has happened of late, how much of it was good, and how long ago it
// began.
func (w *Recent) Sums(t time.Time) (total, good uint64, age time.Duration) {
	n := w.move(t)
	c := &w.cells[n%uint64(len(w.cells))]
	good = w.good.Load() + c.good.Load()
	total = max(w.total.Load()+c.total.Load(), good)
	from := min(w.oldest.Load(), n)
	return total, good, max(t.Sub(w.begin)-time.Duration(from)*w.cell, 0)
}

// move makes the cell of now the current one, and returns its number.
func (w *Recent) move(t time.Time) uint64 {
	n := uint64(max(t.Sub(w.begin), 0) / w.cell)
	if now := w.now.Load(); n <= now {
		return now // another one is ahead of us
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	now, size := w.now.Load(), uint64(len(w.cells))
	if n <= now {
		return now
	}
	for i := uint64(1); i <= min(n-now, size); i++ {
		c := &w.cells[(now+i)%size]
		c.total.Store(0)
		c.good.Store(0)
	}
	w.sum(n)
	w.now.Store(n)
	return n
}

// sum adds up all cells before n. The lock is held.
func (w *Recent) sum(n uint64) {
	var total, good uint64
	oldest, size := n, uint64(len(w.cells))
	for back := uint64(1); back < size && back <= n; back++ {
		c := &w.cells[(n-back)%size]
		if k := c.total.Load(); k > 0 {
			total, good, oldest = total+k, good+c.good.Load(), n-back
		}
	}
	w.total.Store(total)
	w.good.Store(good)
	w.oldest.Store(oldest)
}

// Reset forgets everything.
func (w *Recent) Reset(t time.Time) {
	n := w.move(t)
	w.mu.Lock()
	defer w.mu.Unlock()
	for i := range w.cells {
		w.cells[i].total.Store(0)
		w.cells[i].good.Store(0)
	}
	w.sum(n)
}
