package ads

import "time"

// Backoff is the wait before another try: it doubles from Base to Max, half of it
// fixed and half random. Zero fields take Envoy's 500 ms and 30 s.
type Backoff struct {
	Base, Max time.Duration
}

// Delay is the wait after the given number of earlier failures in a row;
// random is in [0, 1).
func (b Backoff) Delay(attempt int, random float64) time.Duration {
	if b.Base <= 0 {
		b.Base = 500 * time.Millisecond
	}
	if b.Max <= 0 {
		b.Max = 30 * time.Second
	}
	d := min(b.Base, b.Max)
	for ; attempt > 0 && d < b.Max; attempt-- {
		d = min(2*d, b.Max)
	}
	half := d / 2
	return half + time.Duration(random*float64(d-half))
}
