package wasm

// Status is what host functions answer.
type Status uint32

// The statuses.
const (
	StatusOK Status = iota
	StatusNotFound
	StatusBadArgument
	StatusSerializationFailure
	StatusParseFailure
	StatusBadExpression
	StatusInvalidMemoryAccess
	StatusEmpty
	StatusCASMismatch
	StatusResultMismatch
	StatusInternalFailure
	StatusBrokenConnection
	StatusUnimplemented
)

// view lends n bytes of guest memory from ptr on; ok is false where they are not all there.
// It is valid until the guest runs.
func (in *Instance) view(ptr, n uint64) (p []byte, ok bool) {
	return in.memory.Read(uint32(ptr), uint32(n))
}

// put32 writes a number for the guest.
func (in *Instance) put32(ptr uint64, v uint32) Status {
	if !in.memory.WriteUint32Le(uint32(ptr), v) {
		return StatusInvalidMemoryAccess
	}
	return StatusOK
}

// room asks the guest for n bytes of its memory, writes down for the guest where they are,
// and lends them.
func (in *Instance) room(n int, ptrAt, sizeAt uint64) ([]byte, Status) {
	if n == 0 {
		if s := in.put32(ptrAt, 0); s != StatusOK {
			return nil, s
		}
		return nil, in.put32(sizeAt, 0)
	}
	if in.allocate == nil || in.inAllocate {
		return nil, StatusInvalidMemoryAccess
	}
	in.inAllocate = true
	in.inner[0] = uint64(n)
	err := in.allocate.CallWithStack(in, in.inner[:])
	in.inAllocate = false
	if err != nil {
		panic(err) // the guest has failed, and what has called the host fails with it
	}
	ptr := in.inner[0]
	p, ok := in.view(ptr, uint64(n))
	if !ok || ptr == 0 {
		return nil, StatusInvalidMemoryAccess
	}
	if s := in.put32(ptrAt, uint32(ptr)); s != StatusOK {
		return nil, s
	}
	return p, in.put32(sizeAt, uint32(n))
}

// give hands a copy of s to the guest.
func (in *Instance) give(s string, ptrAt, sizeAt uint64) Status {
	p, status := in.room(len(s), ptrAt, sizeAt)
	copy(p, s)
	return status
}
