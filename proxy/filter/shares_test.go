package filter

import (
	"testing"
	"testing/synctest"
)

// TestShare: a value lives as long as somebody uses it.
func TestShare(t *testing.T) {
	sh, made := NewShares(), 0
	fresh := func() *int { made++; return new(int) }
	a, releaseA := Share(sh, "k", fresh)
	b, releaseB := Share(sh, "k", fresh)
	if a != b || made != 1 {
		t.Fatal("two values under one key")
	}
	releaseA()
	if c, releaseC := Share(sh, "k", fresh); c != b {
		t.Fatal("it is gone while somebody uses it")
	} else {
		releaseC()
	}
	releaseB()
	if _, release := Share(sh, "k", fresh); made != 2 {
		t.Fatal("nobody used it, and it stayed")
	} else {
		release()
	}
	if x, _ := Share(nil, "k", fresh); x == nil {
		t.Fatal("nothing without Shares")
	}
}

// closing counts how often it was closed.
type closing struct{ n int }

func (c *closing) Close() error { c.n++; return nil }

// TestSharesClose: what can be closed is, once, with its last user.
func TestSharesClose(t *testing.T) {
	for _, sh := range []*Shares{NewShares(), nil} {
		v, first := Share(sh, "k", func() *closing { return &closing{} })
		second := func() {}
		if sh != nil {
			var same *closing
			if same, second = Share(sh, "k", func() *closing { return nil }); same != v {
				t.Error("another value")
			}
		}
		if second(); v.n != 0 {
			t.Error("closed while in use")
		}
		if first(); v.n != 1 {
			t.Errorf("closed %d times", v.n)
		}
	}
}

// slow is closed only once it may be.
type slow struct{ begun, may chan struct{} }

func (s *slow) Close() error {
	close(s.begun)
	<-s.may
	return nil
}

// TestSharesSlowClose: while a value is being closed other keys are free, and its own key
// is not.
func TestSharesSlowClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sh, v := NewShares(), &slow{make(chan struct{}), make(chan struct{})}
		_, release := Share(sh, "slow", func() *slow { return v })
		go release()
		<-v.begun
		_, other := Share(sh, "other", func() int { return 1 })
		other()
		again := false
		go func() {
			_, done := Share(sh, "slow", func() *slow { return nil })
			again = true
			_ = done // a nil *slow is not to be closed
		}()
		synctest.Wait()
		if again {
			t.Error("made anew before it was closed")
		}
		close(v.may)
		synctest.Wait()
		if !again {
			t.Error("not made anew")
		}
	})
}
