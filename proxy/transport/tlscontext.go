package transport

import (
	"sync"
	"sync/atomic"
)

// built is what handshakes use until a secret changes. The zero value has nothing yet.
type built[C any] struct {
	mu  sync.Mutex
	now atomic.Pointer[C]
}

// get returns what is fresh, building it if need be. Handshakes that meet there wait for one
// of them to build it, and it is counted once.
func (b *built[C]) get(st *TLSStats, fresh func(*C) bool, build func() (*C, error)) (*C, error) {
	if c := b.now.Load(); c != nil && fresh(c) {
		return c, nil
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	before := b.now.Load()
	if before != nil && fresh(before) { // somebody was quicker
		return before, nil
	}
	c, err := build()
	if err != nil {
		return nil, err
	}
	if before != nil {
		st.secrets.Update.Inc()
	}
	b.now.Store(c)
	return c, nil
}
