//go:build invariants

package buffer

import (
	"runtime/debug"
	"sync"
)

// Invariants tells whether the checks of the build tag "invariants" are compiled in.
const Invariants = true

const poison = 0xDB

type trace struct{ stack string }

var live = struct {
	sync.Mutex
	slabs map[*slab]struct{}
}{slabs: map[*slab]struct{}{}}

func (s *slab) taken() {
	s.trace.stack = string(debug.Stack())
	live.Lock()
	live.slabs[s] = struct{}{}
	live.Unlock()
}

// released overwrites the slab, so that a view kept too long reads garbage in
// tests instead of another request's bytes in production.
func (s *slab) released() {
	live.Lock()
	delete(live.slabs, s)
	live.Unlock()
	for i := range s.data {
		s.data[i] = poison
	}
}

// Leaks returns one text per slab that was taken and not released, with the
// stack that took it. It knows them only under the build tag "invariants".
func Leaks() []string {
	live.Lock()
	defer live.Unlock()
	var out []string
	for s := range live.slabs {
		out = append(out, s.trace.stack)
	}
	return out
}
