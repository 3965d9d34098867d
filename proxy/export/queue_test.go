package export

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func every(d time.Duration) func() time.Duration { return func() time.Duration { return d } }

func TestBatches(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var got []Batch
		var when []time.Duration
		start := time.Now()
		q := NewQueue(Options{
			Interval: every(time.Second), Entries: func() int { return 3 },
			Send: func(_ context.Context, b Batch) {
				b.Bytes = append([]byte(nil), b.Bytes...) // lent
				got, when = append(got, b), append(when, time.Since(start))
			},
		})
		for _, e := range []string{"a", "b", "c"} {
			q.Put([]byte(e)) // enough at once
		}
		synctest.Wait()
		q.Put([]byte("d"))
		time.Sleep(2 * time.Second)
		q.Put([]byte("e"))
		q.Close(t.Context()) // does not wait for the interval
		q.Put([]byte("f"))   // nobody is there any more
		synctest.Wait()
		if len(got) != 3 || string(got[0].Bytes) != "abc" || string(got[1].Bytes) != "d" || string(got[2].Bytes) != "e" {
			t.Fatalf("got %v", got)
		}
		if when[0] != 0 || when[1] != time.Second || when[2] != 2*time.Second {
			t.Errorf("sent at %v", when)
		}
		if got[0].Timed || !got[1].Timed || got[2].Timed {
			t.Errorf("timed: %v %v %v", got[0].Timed, got[1].Timed, got[2].Timed)
		}
	})
}

// A service that does not answer costs what there is room for, and nobody waits for it.
func TestDeadService(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var dropped atomic.Int64
		sent := 0
		q := NewQueue(Options{
			Interval: every(time.Second), Entries: func() int { return 1 }, Room: 10, MaxEntries: 5,
			Dropped: func(n int) { dropped.Add(int64(n)) },
			Send: func(ctx context.Context, b Batch) {
				sent += b.N
				<-ctx.Done()
			},
		})
		q.Put([]byte("1"))
		synctest.Wait()
		for range 6 {
			q.Put([]byte("1")) // four find a place beside the one that is being sent
		}
		if n := dropped.Load(); n != 2 {
			t.Errorf("%d entries dropped, want 2", n)
		}
		q.Put([]byte("0123456789a")) // too large for what is left
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		q.Close(ctx)
		synctest.Wait()
		if n := dropped.Load(); n != 3 {
			t.Errorf("%d entries dropped, want 3", n)
		}
		if sent != 5 {
			t.Errorf("%d entries sent, want all 5", sent)
		}
	})
}
