package filter

import (
	"io"
	"sync"
)

// Shares is what filters of a process have in common under a key, such as the token buckets
// of share_key. A nil Shares has nothing in common. It is safe for concurrent use.
type Shares struct {
	mu sync.Mutex
	by map[string]*shared
}

type shared struct {
	v     any
	users int
	gone  chan struct{} // closed once nobody uses v and v is closed
}

// NewShares returns one without anything in it.
func NewShares() *Shares { return &Shares{by: map[string]*shared{}} }

// Share returns the value under key, which fresh makes for whoever asks first. release, to
// be called once, gives it up; the value goes with its last user, who closes it if it is an
// io.Closer. Keys of values of different types differ.
func Share[T any](sh *Shares, key string, fresh func() T) (v T, release func()) {
	if sh == nil {
		sh = NewShares() // of this caller alone
	}
	s := sh.get(key, func() any { return fresh() })
	return s.v.(T), func() { sh.release(key, s) }
}

// get counts one more user of key. A value that is being closed is waited for, so that who
// makes it anew finds it closed.
func (sh *Shares) get(key string, fresh func() any) *shared {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	s := sh.by[key]
	for s != nil && s.users == 0 {
		sh.mu.Unlock()
		<-s.gone
		sh.mu.Lock()
		s = sh.by[key]
	}
	if s == nil {
		s = &shared{v: fresh(), gone: make(chan struct{})}
		sh.by[key] = s
	}
	s.users++
	return s
}

// release closes the value with its last user, without the lock: that may take time, and
// the users of other keys are not to wait for it.
func (sh *Shares) release(key string, s *shared) {
	sh.mu.Lock()
	s.users--
	last := s.users == 0
	sh.mu.Unlock()
	if !last {
		return
	}
	if c, ok := s.v.(io.Closer); ok {
		_ = c.Close() // there is nobody to tell
	}
	sh.mu.Lock()
	delete(sh.by, key)
	sh.mu.Unlock()
	close(s.gone)
}
