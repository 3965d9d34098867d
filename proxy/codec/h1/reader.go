package h1

import (
	"errors"
	"io"

	"github.com/mecha-mesh/mecha/proxy/buffer"
	"github.com/mecha-mesh/mecha/proxy/codec"
	"github.com/mecha-mesh/mecha/proxy/header"
	"github.com/mecha-mesh/mecha/proxy/netio"
)

// reader is the receiving half of a connection. Only the goroutine that reads
// touches it, until the stream is released.
type reader struct {
	conn *netio.Conn
	opt  *Options
	in   buffer.Buf // from the socket, not consumed yet
	head buffer.Buf // holds the slabs that header views point into until the stream is released
	scan headScan
	size int // length of the head at the front of in, once known

	framing framing
	done    bool  // the message is complete
	left    int64 // of a body by length
	chunks  chunks
	section int // length of the trailer section at the front of in, once known
	trail   bool
	failed  bool

	wire codec.Wire
}

// reset prepares r for the next message on the connection.
func (r *reader) reset() {
	r.head.Release()
	r.scan, r.size = headScan{}, 0
	r.framing, r.done, r.left, r.section, r.trail = noBody, false, 0, 0, false
	r.chunks = chunks{}
	r.wire = codec.Wire{}
}

// begin starts a body.
func (r *reader) begin(f framing, length int64) codec.Next {
	r.framing, r.left = f, length
	r.done = f == noBody
	if r.done {
		return codec.End
	}
	return codec.Data
}

var errHeadTooLarge = &codec.ProtocolError{Code: 431, Details: detailsHeadersTooBig, Reason: "head is larger than max_request_headers_kb"}

// nextHead returns the next head of at most limit bytes, its views kept by
// r.head, or nil if it isn't complete yet.
func (r *reader) nextHead(limit int) ([]byte, error) {
	whole := r.headReady()
	if r.scan.n > limit {
		return nil, errHeadTooLarge
	}
	if !whole {
		return nil, nil
	}
	n := r.size
	p, _ := r.in.Peek(n)
	r.head.Move(&r.in, n)
	r.scan, r.size = headScan{}, 0
	r.wire.Header += int64(n)
	return p, nil
}

// headReady reports whether a whole head is at hand.
func (r *reader) headReady() bool {
	if r.size == 0 {
		r.size, _ = r.scan.find(&r.in)
	}
	return r.size > 0
}

// fill waits for more bytes. An end within a message is io.ErrUnexpectedEOF.
func (r *reader) fill() error {
	_, err := r.conn.ReadBuf(&r.in)
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

// readData implements codec.Stream.ReadData.
func (r *reader) readData(b *buffer.Buf) (codec.Next, error) {
	if r.done {
		return codec.End, nil
	}
	switch r.framing {
	case byLength:
		return r.readLength(b)
	case byChunks:
		return r.readChunks(b)
	}
	return r.readRest(b)
}

func (r *reader) readLength(b *buffer.Buf) (codec.Next, error) {
	n := int(min(r.left, int64(r.in.Len())))
	if n > 0 {
		b.Move(&r.in, n)
	} else {
		var err error
		n, err = r.conn.ReadBufMax(b, int(min(r.left, buffer.SlabSize)))
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		if err != nil {
			return codec.Data, err
		}
	}
	r.took(n)
	return r.next(), nil
}

// took counts n bytes of a body by length.
func (r *reader) took(n int) {
	r.left -= int64(n)
	r.wire.Body += int64(n)
	r.done = r.left == 0
}

func (r *reader) next() codec.Next {
	if r.done {
		return codec.End
	}
	return codec.Data
}

// readRest reads until the end of the connection.
func (r *reader) readRest(b *buffer.Buf) (codec.Next, error) {
	n := r.in.Len()
	if n > 0 {
		b.MoveAll(&r.in)
	} else {
		var err error
		n, err = r.conn.ReadBuf(b)
		if err == io.EOF {
			r.done = true
			return codec.End, nil
		}
		if err != nil {
			return codec.Data, err
		}
	}
	r.wire.Body += int64(n)
	return codec.Data, nil
}

// copyChunk is up to which size the data of a chunk is copied: a view and a
// reference for each of many small chunks cost more.
const copyChunk = 256

func (r *reader) readChunks(b *buffer.Buf) (codec.Next, error) {
	got := 0
	for {
		ok, err := r.advance()
		switch {
		case err != nil && got > 0:
			return codec.Data, nil // what was good goes on; the next call meets the error again
		case err != nil:
			r.failed = true
			return codec.Data, err
		case r.chunks.state == chunkData && r.in.Len() > 0:
			n := int(min(r.chunks.left, int64(r.in.Len())))
			r.chunkData(b, n, got > 0)
			got += n
		case ok && r.section > 0:
			return r.endChunks()
		case got > 0:
			return codec.Data, nil
		default:
			if err := r.fill(); err != nil {
				return codec.Data, err
			}
		}
	}
}

// chunkData hands on n bytes of the data of a chunk, which is not the first one to
// go into b if more says so.
func (r *reader) chunkData(b *buffer.Buf, n int, more bool) {
	if first := r.in.First(); more && n <= copyChunk && len(first) > n {
		b.Append(first[:n])
		r.in.Discard(n)
	} else {
		b.Move(&r.in, n)
	}
	r.chunks.took(n)
	r.wire.Body += int64(n)
}

// advance consumes framing that is in r.in and reports whether data, or the whole
// trailer section, is at its front now.
func (r *reader) advance() (bool, error) {
	for r.in.Len() > 0 && r.chunks.state != chunkData && r.chunks.state != chunkLast {
		n, err := r.chunks.skip(r.in.First())
		r.in.Discard(n)
		r.wire.Body += int64(n)
		if err != nil {
			return false, err
		}
	}
	switch {
	case r.chunks.state == chunkData:
		return r.in.Len() > 0, nil
	case r.chunks.state != chunkLast:
		return false, nil
	case r.section > 0:
		return true, nil
	}
	n, ok := r.scan.find(&r.in)
	if r.scan.n > r.opt.headLimit() {
		return false, refuse(431, detailsHeadersTooBig, "trailers are larger than the limit for a head")
	}
	if ok {
		r.section = n
		r.scan = headScan{}
	}
	return ok, nil
}

// endChunks is called with the whole trailer section at hand.
func (r *reader) endChunks() (codec.Next, error) {
	if r.section > len("\r\n") && r.opt.EnableTrailers {
		r.trail = true
		return codec.Trailers, nil
	}
	if err := r.readTrailers(nil); err != nil {
		return codec.Data, err
	}
	return codec.End, nil
}

// readTrailers implements codec.Stream.ReadTrailers; a nil map drops them.
func (r *reader) readTrailers(m *header.Map) error {
	if r.section == 0 {
		return errors.New("h1: no trailers to read")
	}
	p, _ := r.in.Peek(r.section)
	r.wire.Body += int64(r.section)
	r.head.Move(&r.in, r.section)
	r.section = 0
	if err := parseTrailers(p, m, r.opt.countLimit()); err != nil {
		r.failed = true
		return err
	}
	r.done = true
	return nil
}

// buffered implements codec.Stream.BufferedData.
func (r *reader) buffered() bool {
	switch {
	case r.done:
		return true
	case r.framing == byChunks:
		ok, err := r.advance()
		return ok || err != nil
	}
	return r.in.Len() > 0 || r.conn.Pending() > 0
}
