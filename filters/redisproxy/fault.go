package redisproxy

import (
	"math/rand/v2"
	"time"
)

// delayed reports whether a fault may make a command wait.
func (s *session) delayed(c *command) bool {
	for i := range s.c.Faults {
		if f := &s.c.Faults[i]; f.delay > 0 && f.concerns(c) {
			return true
		}
	}
	return false
}

func (f *fault) concerns(c *command) bool { return f.names == nil || f.names[c.name] }

// faulty lets a fault happen to a command, if chance wants it so: at most one, and the first
// that does. It reports whether the command was answered.
func (s *session) faulty(c *command, count *commandCounters) bool {
	for i := range s.c.Faults {
		f := &s.c.Faults[i]
		if !f.concerns(c) || !f.share.On(s.runtime).Match(rand.Uint64()) {
			continue
		}
		if f.delay > 0 {
			count.Delayed.Inc()
			s.pause(f.delay)
		}
		if !f.fails {
			return false
		}
		count.Failed.Inc()
		count.Error.Inc()
		s.sayError("Fault Injected: Error")
		return true
	}
	return false
}

// pause waits, but not longer than the connection may.
func (s *session) pause(d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-s.conn.Engine.Context().Done():
	}
	s.now = time.Now()
}
