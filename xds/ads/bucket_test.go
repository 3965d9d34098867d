package ads

import (
	"testing"
	"time"
)

func TestBucket(t *testing.T) {
	now := time.Unix(0, 0)
	b := newBucket(RateLimit{Tokens: 2, PerSec: 4, Enabled: true})
	for range 2 {
		if w := b.take(now); w != 0 {
			t.Fatalf("a full bucket makes wait for %s", w)
		}
	}
	if w := b.take(now); w != 250*time.Millisecond {
		t.Errorf("an empty one for %s, want 250ms", w)
	}
	if w := b.take(now.Add(250 * time.Millisecond)); w != 0 {
		t.Errorf("after that for %s", w)
	}
	now = now.Add(time.Hour)
	for range 2 {
		if b.take(now) != 0 {
			t.Error("it does not fill up")
		}
	}
	if b.take(now) == 0 {
		t.Error("it holds more than max_tokens")
	}
	free := newBucket(RateLimit{})
	for range 1000 {
		if free.take(now) != 0 {
			t.Fatal("no limit is no limit")
		}
	}
}
