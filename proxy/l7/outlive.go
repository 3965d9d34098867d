package l7

import (
	"github.com/mecha-mesh/mecha/proxy/buffer"
	"github.com/mecha-mesh/mecha/proxy/codec"
	"github.com/mecha-mesh/mecha/proxy/header"
)

// Outlive implements filter.Engine.
func (st *stream) Outlive() {
	st.mu.Lock()
	defer st.mu.Unlock()
	if st.outlives {
		return
	}
	st.outlives = true
	st.down = &outliving{ServerStream: st.down, st: st}
}

// outliving is the client's side of a stream that goes on without its client: from the first
// write that fails on, what is written goes nowhere.
type outliving struct {
	codec.ServerStream
	st   *stream
	deaf bool
}

// over takes an error of writing for the end of the client, and hides it.
func (o *outliving) over(err error) error {
	if err != nil {
		o.deaf, o.st.broken = true, true
	}
	return nil
}

// WriteHeaders implements codec.Stream.
func (o *outliving) WriteHeaders(m *header.Map, end bool) error {
	if o.deaf {
		return nil
	}
	return o.over(o.ServerStream.WriteHeaders(m, end))
}

// WriteData implements codec.Stream.
func (o *outliving) WriteData(b *buffer.Buf, end bool) error {
	if o.deaf {
		b.Release()
		return nil
	}
	return o.over(o.ServerStream.WriteData(b, end))
}

// WriteTrailers implements codec.Stream.
func (o *outliving) WriteTrailers(m *header.Map) error {
	if o.deaf {
		return nil
	}
	return o.over(o.ServerStream.WriteTrailers(m))
}

// Flush implements codec.Stream.
func (o *outliving) Flush() error {
	if o.deaf {
		return nil
	}
	return o.over(o.ServerStream.Flush())
}

// Raw implements codec.Stream: the kernel would not hide an error.
func (o *outliving) Raw() (codec.RawStream, bool) { return nil, false }
