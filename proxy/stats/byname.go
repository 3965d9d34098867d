package stats

import (
	"maps"
	"sync"
	"sync/atomic"
)

// ByName are shared structs that configuration names, such as those of routes with a stat
// prefix of their own: Of makes each when it is first asked for, Close gives them up.
type ByName[T any] struct {
	share func(name string) (p *T, release func())

	mu       sync.Mutex
	releases []func()
	by       atomic.Pointer[map[string]*T]
}

// NewByName returns an empty set, whose members share makes: see Shared.
func NewByName[T any](share func(name string) (p *T, release func())) *ByName[T] {
	b := &ByName[T]{share: share}
	b.by.Store(&map[string]*T{})
	return b
}

// Of returns the struct of a name. Names come from configuration: their number has no
// bound here.
func (b *ByName[T]) Of(name string) *T {
	if p := (*b.by.Load())[name]; p != nil {
		return p
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	old := *b.by.Load()
	if p := old[name]; p != nil {
		return p
	}
	next := maps.Clone(old)
	p, release := b.share(name)
	next[name] = p
	b.releases = append(b.releases, release)
	b.by.Store(&next)
	return p
}

// Close gives all of them up.
func (b *ByName[T]) Close() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, release := range b.releases {
		release()
	}
	b.releases = nil
}
