package call

import (
	"context"
	"math/rand/v2"
	"time"
)

// Backoff is how long to pause between attempts. The zero value does not.
type Backoff struct{ Base, Max time.Duration }

// Wait pauses before attempt n+1: a random time that grows with n. It returns the cause of
// ctx when that ends.
func (b Backoff) Wait(ctx context.Context, n int) error {
	if b.Base <= 0 {
		return context.Cause(ctx)
	}
	d := b.Base << min(n-1, 20)
	if b.Max > 0 {
		d = min(d, b.Max)
	}
	t := time.NewTimer(rand.N(d) + 1)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-t.C:
		return nil
	}
}
