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
	sh.mu.Lock()
	defer sh.mu.Unlock()
	s := sh.by[key]
	if s == nil {
		s = &shared{v: fresh()}
		sh.by[key] = s
	}
	s.users++
	return s.v.(T), func() {
		sh.mu.Lock()
		defer sh.mu.Unlock()
		if s.users--; s.users == 0 {
			delete(sh.by, key)
			if c, ok := s.v.(io.Closer); ok {
				_ = c.Close() // under the lock, so that who makes it anew finds it closed; there is nobody to tell
			}
		}
	}
}
