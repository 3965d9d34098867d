package filter

import (
	"sync"
	"sync/atomic"
)

// Generation is the life of what was built from discovered configuration (ECDS) of one
// moment: who uses it enters and leaves, and when something newer has replaced it and
// the last user has left, what it holds is given back. The zero value is ready. It is
// safe for concurrent use.
type Generation struct {
	active atomic.Int64
	over   atomic.Bool
	once   sync.Once
	mu     sync.Mutex
	retire []func()
}

// Enter counts a user. Of the newest generation one becomes a user by EnterNewest.
func (g *Generation) Enter() { g.active.Add(1) }

// Leave is the end of an Enter.
func (g *Generation) Leave() {
	if g.active.Add(-1) == 0 && g.over.Load() {
		g.Close()
	}
}

// EnterNewest enters the generation in live, which embeds Generation: one that is replaced
// at that moment is left again.
func EnterNewest[T any, G interface {
	*T
	Enter()
	Leave()
}](live *atomic.Pointer[T]) G {
	for {
		g := G(live.Load())
		g.Enter()
		if live.Load() == (*T)(g) {
			return g
		}
		g.Leave()
	}
}

// Replaced is called when a newer generation is in use.
func (g *Generation) Replaced() {
	g.over.Store(true)
	if g.active.Load() == 0 {
		g.Close()
	}
}

// Close gives back what the generation holds, once.
func (g *Generation) Close() {
	g.once.Do(func() {
		g.mu.Lock()
		fs := g.retire
		g.retire = nil
		g.mu.Unlock()
		for _, f := range fs {
			f()
		}
	})
}

// OnRetire registers f for Close: an Env.Retire.
func (g *Generation) OnRetire(f func()) {
	g.mu.Lock()
	g.retire = append(g.retire, f)
	g.mu.Unlock()
}

// Follow calls renew, and calls it again whenever one of the sources has something else,
// one call at a time, until what it registers with onRetire has run.
func Follow(sources []*ExtensionSource, onRetire func(func()), renew func() error) error {
	var mu sync.Mutex
	one := func() error {
		mu.Lock()
		defer mu.Unlock()
		return renew()
	}
	mu.Lock()
	defer mu.Unlock()
	for _, s := range sources { // before the first call, or what comes in between is missed
		onRetire(s.Watch(one))
	}
	return renew()
}
