package backoff

import (
	"context"
	"errors"
	"math"
	"testing"
	"testing/synctest"
	"time"
)

func TestLimit(t *testing.T) {
	for _, c := range []struct {
		p    Policy
		n    int
		want time.Duration
	}{
		{Policy{}, 1, 0},
		{Policy{Max: time.Second}, 5, 0},
		{Policy{Base: -1, Max: time.Second}, 5, 0},
		{Policy{Base: 10, Max: 100}, 0, 10},
		{Policy{Base: 10, Max: 100}, 1, 10},
		{Policy{Base: 10, Max: 100}, 2, 20},
		{Policy{Base: 10, Max: 100}, 4, 80},
		{Policy{Base: 10, Max: 100}, 5, 100},
		{Policy{Base: 10, Max: 80}, 4, 80},
		{Policy{Base: 10, Max: 100}, math.MaxInt, 100},
		{Policy{Base: 100, Max: 10}, 1, 10},
		{Policy{Base: 39 * time.Hour, Max: 1000 * time.Hour}, 17, 1000 * time.Hour},
		{Policy{Base: 39 * time.Hour, Max: 1000 * time.Hour}, 3, 156 * time.Hour},
		{Policy{Base: math.MaxInt64, Max: math.MaxInt64}, 2, math.MaxInt64},
		{Policy{Base: math.MaxInt64/2 + 1}, 2, math.MaxInt64},
		{Policy{Base: 1}, 63, 1 << 62},
		{Policy{Base: 1}, 64, math.MaxInt64},
	} {
		if d := c.p.Limit(c.n); d != c.want {
			t.Errorf("%+v: the limit after %d failures is %v, want %v", c.p, c.n, d, c.want)
		}
	}
}

// TestPause: pauses are spread over all of what the limit allows, and never 0.
func TestPause(t *testing.T) {
	p := Policy{Base: 10 * time.Millisecond, Max: 100 * time.Millisecond}
	for _, n := range []int{0, 1, 2, 4, 5, 40, math.MaxInt32} {
		limit, least, most := p.Limit(n), time.Duration(math.MaxInt64), time.Duration(0)
		for range 2000 {
			d := p.Pause(n)
			if d < 1 || d > limit {
				t.Fatalf("after %d failures it pauses %v, the limit is %v", n, d, limit)
			}
			least, most = min(least, d), max(most, d)
		}
		if most < limit*9/10 || least > limit/10 {
			t.Errorf("after %d failures it pauses %v to %v, the limit is %v", n, least, most, limit)
		}
	}
	if d := (Policy{}).Pause(1); d != 0 {
		t.Errorf("without a base it pauses %v", d)
	}
	if d := (Policy{Base: math.MaxInt64}).Pause(9); d < 1 {
		t.Errorf("with the longest base it pauses %v", d)
	}
}

func TestWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := Policy{Base: time.Second, Max: 3 * time.Second}
		begin := time.Now()
		if err := p.Wait(t.Context(), 9); err != nil {
			t.Fatal(err)
		}
		if d := time.Since(begin); d < 1 || d > p.Max {
			t.Errorf("it waited for %v", d)
		}
		why := errors.New("why")
		ctx, cancel := context.WithCancelCause(t.Context())
		time.AfterFunc(time.Nanosecond, func() { cancel(why) })
		if err := (Policy{Base: math.MaxInt64}).Wait(ctx, 1); err != why {
			t.Errorf("it returns %v", err)
		}
		if err := (Policy{}).Wait(ctx, 1); err != why {
			t.Errorf("without a pause it returns %v", err)
		}
	})
}
