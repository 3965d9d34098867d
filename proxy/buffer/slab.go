package buffer

import (
	"sync"
	"sync/atomic"
)

// SlabSize is the size in bytes of an ordinary slab: a whole request or response
// head with its first body bytes, and one read from a socket, fit into it.
const SlabSize = 16 << 10

// LargeSlabSize is the size of the slabs for bulk reads and for heads beyond
// SlabSize. What needs more is allocated and left to the garbage collector.
const LargeSlabSize = 64 << 10

// slab is one block of memory shared by the views that refer to it.
type slab struct {
	refs  atomic.Int32
	used  int // high-water mark: bytes past it were seen by nobody
	data  []byte
	trace trace
}

// pools is what package buffer keeps for the process: free memory, no state.
var pools = struct{ small, large sync.Pool }{
	small: sync.Pool{New: func() any { return &slab{data: make([]byte, SlabSize)} }},
	large: sync.Pool{New: func() any { return &slab{data: make([]byte, LargeSlabSize)} }},
}

// take returns a slab of at least size bytes with one reference.
func take(size int) *slab {
	var s *slab
	switch {
	case size <= SlabSize:
		s = pools.small.Get().(*slab)
	case size <= LargeSlabSize:
		s = pools.large.Get().(*slab)
	default:
		s = &slab{data: make([]byte, size)}
	}
	s.refs.Store(1)
	s.used = 0
	s.taken()
	return s
}

func (s *slab) ref() { s.refs.Add(1) }

func (s *slab) unref() {
	switch left := s.refs.Add(-1); {
	case left > 0:
		return
	case left < 0:
		panic("buffer: slab released twice")
	}
	s.released()
	switch len(s.data) {
	case SlabSize:
		pools.small.Put(s)
	case LargeSlabSize:
		pools.large.Put(s)
	}
}
