package router

import (
	"testing"
	"time"

	"github.com/mecha-mesh/mecha/proxy/route"
)

// TestExponential: the n-th wait is below the base times two to the power of n-1, never
// more than the maximum, and spread over all of that.
func TestExponential(t *testing.T) {
	p := &route.RetryPolicy{Base: 10 * time.Millisecond, Max: 100 * time.Millisecond}
	for n, limit := range map[uint32]time.Duration{
		0: 10 * time.Millisecond, 1: 10 * time.Millisecond, 2: 20 * time.Millisecond, 4: 80 * time.Millisecond,
		5: 100 * time.Millisecond, 40: 100 * time.Millisecond, 1 << 31: 100 * time.Millisecond,
	} {
		most := time.Duration(0)
		for range 2000 {
			d := exponential(p, n)
			if d < 0 || d >= limit {
				t.Fatalf("retry %d waits %v, the limit is %v", n, d, limit)
			}
			most = max(most, d)
		}
		if most < limit*9/10 {
			t.Errorf("retry %d waits %v at most, the limit is %v", n, most, limit)
		}
	}
	if d := exponential(&route.RetryPolicy{}, 1); d != 0 {
		t.Errorf("without a base it waits %v", d)
	}
}
