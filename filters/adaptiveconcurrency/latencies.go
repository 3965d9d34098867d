package adaptiveconcurrency

import (
	"math/bits"
	"sync/atomic"
	"time"
)

// latencies counts how long things took, in cells that are 1/16 wide of what they stand
// for, from a microsecond to an hour. It takes no lock.
type latencies struct {
	cells [cells]atomic.Uint32
	n     atomic.Int64
}

const (
	perOctave = 16
	cells     = 33 * perOctave
)

func (l *latencies) add(d time.Duration) {
	l.cells[cellOf(d)].Add(1)
	l.n.Add(1)
}

// cellOf returns the cell of a duration: its highest bit, and the four after that.
func cellOf(d time.Duration) int {
	us := uint64(max(d.Microseconds(), 1))
	high := bits.Len64(us) - 1
	var rest uint64
	if high >= 4 {
		rest = us >> (high - 4) & 15
	} else {
		rest = us << (4 - high) & 15
	}
	return min(high*perOctave+int(rest), cells-1)
}

// of returns the middle of a cell.
func of(cell int) time.Duration {
	high, rest := cell/perOctave, cell%perOctave
	us := float64(uint64(1)<<high) * (1 + (float64(rest)+0.5)/perOctave)
	return time.Duration(us * float64(time.Microsecond))
}

// take returns the quantile of what was added, how much that was, and forgets it.
func (l *latencies) take(quantile float64) (d time.Duration, n int64) {
	var got [cells]uint32
	for i := range l.cells {
		got[i] = l.cells[i].Swap(0)
		n += int64(got[i])
	}
	l.n.Add(-n)
	rank, sum := int64(quantile*float64(n)), int64(0)
	for i, k := range got {
		if sum += int64(k); k > 0 && (sum > rank || sum == n) {
			return of(i), n
		}
	}
	return 0, n
}
