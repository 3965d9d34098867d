package h2

import (
	"time"

	"github.com/mecha-mesh/mecha/proxy/codec"
)

var _ codec.Shared = (*ServerStream)(nil)

// OnGone implements codec.Shared.
func (s *ServerStream) OnGone(f func()) {
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	s.onGone = f
	if s.err != nil {
		f()
	}
}

// Gone implements codec.Shared.
func (s *ServerStream) Gone() error {
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	return s.err
}

// LimitStall implements codec.Shared.
func (s *ServerStream) LimitStall(d time.Duration) {
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	s.stall = d
}

var _ codec.Tunneler = (*ServerStream)(nil)

// EarlyData implements codec.Tunneler.
func (s *ServerStream) EarlyData() bool {
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	return s.unread() > 0
}
