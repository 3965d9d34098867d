// Package backoff says how long to pause between attempts: a time that doubles with each
// failure, up to a limit, of which a random part is waited for.
package backoff

import (
	"context"
	"math"
	"math/rand/v2"
	"time"
)

// Policy is how pauses grow. The zero value does not pause.
type Policy struct {
	Base time.Duration // the limit after the first failure; 0 or less: no pause
	Max  time.Duration // the largest limit; 0 or less: the longest Duration
}

// Limit is the longest pause after n failures in a row, counted from 1: Base, doubled for each
// one after the first, Max at most.
func (p Policy) Limit(n int) time.Duration {
	if p.Base <= 0 {
		return 0
	}
	most := p.Max
	if most <= 0 {
		most = math.MaxInt64
	}
	d := p.Base
	for ; n > 1 && d < most; n-- {
		if d > most/2 {
			return most
		}
		d *= 2
	}
	return min(d, most)
}

// Pause is a random time from 1 ns to Limit(n), or 0 where that is 0.
func (p Policy) Pause(n int) time.Duration {
	limit := p.Limit(n)
	if limit <= 0 {
		return 0
	}
	return rand.N(limit) + 1
}

// Wait waits for Pause(n). It returns the cause of ctx when that ends, or has ended.
func (p Policy) Wait(ctx context.Context, n int) error {
	d := p.Pause(n)
	if d <= 0 || ctx.Err() != nil {
		return context.Cause(ctx)
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-t.C:
		return nil
	}
}
