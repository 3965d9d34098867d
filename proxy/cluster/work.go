package cluster

import "sync"

// work counts the goroutines that a Manager has started, so that it can wait for them.
type work struct {
	mu      sync.Mutex
	stopped bool
	running sync.WaitGroup
}

// begin counts one more; false after wait was called.
func (w *work) begin() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.stopped {
		w.running.Add(1)
	}
	return !w.stopped
}

// wait lets no more begin and waits for those that have.
func (w *work) wait() {
	w.mu.Lock()
	w.stopped = true
	w.mu.Unlock()
	w.running.Wait()
}

// goWork runs f in a goroutine, unless the manager is closed.
func (m *Manager) goWork(f func()) bool {
	if !m.work.begin() {
		return false
	}
	go func() {
		defer m.work.running.Done()
		f()
	}()
	return true
}

// goDial makes a connection in a goroutine of its own: whoever waits for it may go,
// it is of use to the next one.
func (m *Manager) goDial(p *pool, hp *hostPool, h *Host) {
	if !m.goWork(func() { p.dial(m.ctx, hp, h) }) {
		go p.dialFailed(hp, ErrClosed)
	}
}
