package adaptiveconcurrency

import "time"

// base is how long a request takes that waits for no other.
type base struct {
	fixed  bool
	now    time.Duration // 0: not known
	length time.Duration // of a slot
	slots  [slots]slot   // a ring, of the sliding interval
	at     int
	until  time.Time // of the slot of now
}

const slots = 10

// slot is a tenth of the sliding interval.
type slot struct {
	least time.Duration // 0: nothing seen
	idle  bool          // the limit was not in use, at least for a window
}

func (b *base) init(g Gradient, now time.Time) {
	if g.Interval == 0 {
		b.fixed, b.now = true, g.Fixed
		return
	}
	b.length = max(g.Interval/slots, 1)
	b.until = now.Add(b.length)
}

func (b *base) value() time.Duration { return b.now }

// see takes a window into account.
func (b *base) see(w *window) {
	if b.fixed {
		return
	}
	for n := 0; !w.end.Before(b.until); n++ {
		if n == slots { // nothing was seen for so long
			b.until = w.end.Add(b.length)
			break
		}
		b.at = (b.at + 1) % slots
		b.slots[b.at] = slot{}
		b.until = b.until.Add(b.length)
	}
	s := &b.slots[b.at]
	if s.least == 0 || w.sample < s.least {
		s.least = w.sample
	}
	s.idle = s.idle || w.idle()
	least, idle := time.Duration(0), false
	for _, s := range b.slots {
		if s.least > 0 && (least == 0 || s.least < least) {
			least = s.least
		}
		idle = idle || s.idle
	}
	if b.now == 0 || least < b.now || idle {
		b.now = least
	}
}

// become forgets what was before a window.
func (b *base) become(w *window) {
	if b.fixed {
		return
	}
	b.slots = [slots]slot{}
	b.slots[b.at].least = w.sample
	b.now = w.sample
}

// fall watches a limit that gets lower.
type fall struct {
	limit  float64 // where it began; 0: it does not get lower
	sample time.Duration
	peak   int64
	n      int64 // samples since
}

// see reports that the limit was halved, and that requests take as long as before: it is
// not because of each other that they take so long.
func (f *fall) see(w *window, enough int64) bool {
	if f.limit == 0 || w.limit > f.limit {
		*f = fall{limit: w.limit, sample: w.sample, peak: w.peak}
		return false
	}
	f.n += w.n
	if w.limit > f.limit/2 || float64(w.peak) > 0.6*float64(f.peak) || f.n < enough {
		return false
	}
	same := w.sample > f.sample*3/4
	*f = fall{limit: w.limit, sample: w.sample, peak: w.peak}
	return same
}
