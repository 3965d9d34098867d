package wasm

import "github.com/mecha-mesh/mecha/proxy/buffer"

// text is a buffer that guests may only read; ok is false where it is none of those.
func (in *Instance) text(t BufferType) (s string, ok bool) {
	switch t {
	case VMConfiguration:
		return in.vm.config.Configuration, true
	case PluginConfiguration:
		if in.call == nil {
			return "", false
		}
		return in.call.configuration, true
	case CallData:
		if in.call == nil {
			return "", false
		}
		return in.call.configuration, true
	}
	return "", false
}

func (in *Instance) bufferOf(t BufferType) *buffer.Buf {
	if t == CallResponseBody {
		if in.call == nil || !in.call.answered {
			return nil
		}
		return &in.call.body
	}
	if t == GRPCMessage {
		if in.call == nil || !in.call.hasMessage {
			return nil
		}
		return &in.call.body
	}
	s := in.subject()
	if s == nil {
		return nil
	}
	return s.Buffer(t)
}

// span is the part of n bytes that the guest means, from start on.
func span(n int, start, length uint64) (from, size int) {
	from = int(min(uint64(n), uint64(uint32(start))))
	return from, int(min(uint64(n-from), uint64(uint32(length))))
}

func (in *Instance) bufferBytes(a []uint64) Status {
	t := BufferType(a[0])
	if s, ok := in.text(t); ok {
		from, size := span(len(s), a[1], a[2])
		return in.give(s[from:from+size], a[3], a[4])
	}
	b := in.bufferOf(t)
	if b == nil {
		return StatusNotFound
	}
	from, size := span(b.Len(), a[1], a[2])
	p, status := in.room(size, a[3], a[4])
	if status != StatusOK {
		return status
	}
	for v := range b.Views() {
		skip := min(from, len(v))
		from -= skip
		p = p[copy(p, v[skip:]):]
	}
	return StatusOK
}

func (in *Instance) bufferStatus(a []uint64) Status {
	t := BufferType(a[0])
	n := 0
	if s, ok := in.text(t); ok {
		n = len(s)
	} else if b := in.bufferOf(t); b != nil {
		n = b.Len()
	} else {
		return StatusNotFound
	}
	if s := in.put32(a[1], uint32(n)); s != StatusOK {
		return s
	}
	return in.put32(a[2], 0)
}

// maxBody is how large a guest may make a body.
const maxBody = 16 << 20

func (in *Instance) setBufferBytes(a []uint64) Status {
	b := in.bufferOf(BufferType(a[0]))
	if b == nil {
		return StatusBadArgument
	}
	p, ok := in.view(a[3], a[4])
	if !ok {
		return StatusInvalidMemoryAccess
	}
	if b.Len()+len(p) > maxBody {
		return StatusBadArgument
	}
	start, length := uint64(uint32(a[1])), uint64(uint32(a[2]))
	switch {
	case start == 0 && length == 0: // before all
		replace(b, 0, 0, p)
	case start == 0 && length >= uint64(b.Len()):
		b.Release()
		b.Append(p)
	case start >= uint64(b.Len()): // after all
		b.Append(p)
	default:
		return StatusBadArgument
	}
	return StatusOK
}

// replace puts p in the place of size bytes from a position on.
func replace(b *buffer.Buf, from, size int, p []byte) {
	var rest buffer.Buf
	rest.MoveAll(b)
	b.Move(&rest, from)
	rest.Discard(size)
	b.Append(p)
	b.MoveAll(&rest)
}
