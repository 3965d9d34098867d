package localratelimit

import (
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mecha-mesh/mecha/proxy/filter/ratelimit"
)

// TestBucket: it begins full, fills continuously, never beyond its size, and what is given
// back counts.
func TestBucket(t *testing.T) {
	now := time.Now()
	b := newBucket(Rate{Max: 3, PerSecond: 2}, now)
	at := func(ms int) time.Time { return now.Add(time.Duration(ms) * time.Millisecond) }
	for i, c := range []struct {
		ms   int
		n    float64
		want bool
		left int64
	}{
		{0, 1, true, 2},
		{0, 2, true, 0},
		{0, 1, false, 0},
		{499, 1, false, 0},
		{500, 1, true, 0},
		{1500, 2, true, 0},
		{1501, 1, false, 0},
		{100_000, 4, false, 3}, // more than there ever are
		{100_000, 3, true, 0},
	} {
		if got := b.take(c.n, at(c.ms)); got != c.want || b.whole(at(c.ms)) != c.left {
			t.Errorf("%d: take(%v) at %d ms is %v and leaves %d, want %v and %d", i, c.n, c.ms, got, b.whole(at(c.ms)), c.want, c.left)
		}
	}
	if got := b.untilNext(at(100_000)); got != 1 {
		t.Errorf("the next token in %d s, want 1", got)
	}
	if b.give(2, at(100_000)); b.whole(at(100_000)) != 2 {
		t.Errorf("%d tokens after 2 were given", b.whole(at(100_000)))
	}
	if b.give(9, at(100_000)); b.whole(at(100_000)) != 3 {
		t.Errorf("%d tokens in a bucket for 3", b.whole(at(100_000)))
	}
	if newBucket(Rate{Max: 0, PerSecond: 1}, now).take(1, at(5000)) {
		t.Error("a token out of a bucket without room")
	}
}

// TestBucketAtOnce: as many tokens as there are, however many want one.
func TestBucketAtOnce(t *testing.T) {
	now := time.Now()
	b := newBucket(Rate{Max: 1000, PerSecond: 1}, now)
	var got atomic.Int64
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for range 500 {
				if b.take(1, now) {
					got.Add(1)
				}
			}
		})
	}
	all.Wait()
	if got.Load() != 1000 {
		t.Errorf("%d tokens of 1000", got.Load())
	}
}

// TestWildcard: each value has its bucket, as many as may be; the one not used for longest
// goes, and begins anew.
func TestWildcard(t *testing.T) {
	now := time.Now()
	m := newLimiter(&Limits{MaxDynamic: 2, Descriptors: []Descriptor{{Entries: []ratelimit.Entry{{Key: "k"}}, Rate: Rate{Max: 1, PerSecond: 1}}}}, now)
	take := func(value string) bool {
		e := []ratelimit.Entry{{Key: "k", Value: value}}
		return m.find(e, appendKey(nil, e), now).take(1, now)
	}
	for i, c := range []struct {
		value string
		want  bool
	}{{"a", true}, {"b", true}, {"a", false}, {"c", true}, {"a", false}, {"b", true}, {"c", true}} {
		if got := take(c.value); got != c.want {
			t.Errorf("%d: %s: %v", i, c.value, got)
		}
	}
	if n := len(m.dynamic[0].by); n != 2 {
		t.Errorf("%d buckets, want 2", n)
	}
	if e := []ratelimit.Entry{{Key: "k", Value: "a"}, {Key: "x", Value: "y"}}; m.find(e, appendKey(nil, e), now) != nil {
		t.Error("a longer descriptor has the bucket")
	}
}

// TestBucketMadeLate: a bucket that was made for a request, after that one began, is full.
func TestBucketMadeLate(t *testing.T) {
	now := time.Now()
	b := newBucket(Rate{Max: 1, PerSecond: 0.001}, now.Add(time.Minute))
	if left := b.left(now); left != 1 {
		t.Errorf("%v tokens", left)
	}
	if !b.take(1, now) || b.take(1, now) {
		t.Error("it gives other than one token")
	}
}
