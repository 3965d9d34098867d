package cluster

import "sync"

// bounded is a table that grows by use: what its keys are may come with requests, so that
// there is a limit.
type bounded[K comparable, V any] struct {
	mu sync.RWMutex
	by map[K]V
}

// find returns what is known.
func (t *bounded[K, V]) find(k K) (V, bool) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	v, ok := t.by[k]
	return v, ok
}

// add returns what is known by now, or else what fresh makes, with a key that may be kept.
// It returns the zero value if there are most of them already.
func (t *bounded[K, V]) add(k K, most int, fresh func() (K, V)) V {
	t.mu.Lock()
	defer t.mu.Unlock()
	v, ok := t.by[k]
	if ok || len(t.by) >= most {
		return v
	}
	k, v = fresh()
	if t.by == nil {
		t.by = map[K]V{}
	}
	t.by[k] = v
	return v
}

// remove forgets an entry.
func (t *bounded[K, V]) remove(k K) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.by, k)
}
