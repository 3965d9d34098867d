package main

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"

	"golang.org/x/net/http2/hpack"
)

// HTTP/2 as load generator and back end speak it: whole frames in one write for
// whatever one read brought, flow control obeyed, and everything that the rows do
// not need is an error rather than a guess.

const (
	frameData         = 0x0
	frameHeaders      = 0x1
	frameReset        = 0x3
	frameSettings     = 0x4
	framePing         = 0x6
	frameGoAway       = 0x7
	frameWindowUpdate = 0x8

	flagEndStream  = 0x1
	flagAck        = 0x1
	flagEndHeaders = 0x4
	flagPadded     = 0x8
	flagPriority   = 0x20

	settingTableSize  = 0x1
	settingMaxStreams = 0x3
	settingWindow     = 0x4

	frameHead     = 9
	defaultWindow = 65535
	// muxWindow is what both ends let a proxy send on a connection; it is topped
	// up when half of it is used.
	muxWindow = 1 << 20
	// backendStreams is the back end's limit on a connection, the least that
	// RFC 9113 section 6.5.2 recommends.
	backendStreams = 100
)

var preface = []byte("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")

// muxEvents is who uses a mux.
type muxEvents interface {
	// fields takes the fields of a head or of trailers.
	fields(stream uint32, f *fields, end bool) error
	// body takes n bytes of content.
	body(stream uint32, n int, end bool) error
}

// mux is one HTTP/2 connection, of either side.
type mux struct {
	sock *sock
	on   muxEvents
	out  []byte // frames that leave when what arrived has been read

	window int      // what the peer lets us send
	wait   [][]byte // DATA frames that did not fit, and frames behind them
	owed   int      // bytes received that the peer has no window for again

	dec   *hpack.Decoder
	now   fields
	known []byte // a block that left the table as it was
	means fields // what known says
}

// fields is what the checks need of a block.
type fields struct {
	status, path, grpcStatus string
	length                   int // -1: none
}

func newMux(on muxEvents) *mux {
	m := &mux{on: on, window: defaultWindow}
	m.dec = hpack.NewDecoder(4096, func(f hpack.HeaderField) {
		switch f.Name {
		case ":status":
			m.now.status = f.Value
		case ":path":
			m.now.path = f.Value
		case "grpc-status":
			m.now.grpcStatus = f.Value
		case "content-length":
			n, err := strconv.Atoi(f.Value)
			if err != nil {
				n = -2 // equal to nothing that is expected
			}
			m.now.length = n
		}
	})
	return m
}

// hello is what each side says first, the client after the preface.
func (m *mux) hello(streams uint32) {
	m.frame(frameSettings, 0, 0, 6)
	m.out = binary.BigEndian.AppendUint16(m.out, settingMaxStreams)
	m.out = binary.BigEndian.AppendUint32(m.out, streams)
	m.widen(muxWindow - defaultWindow)
}

func (m *mux) widen(by int) {
	m.frame(frameWindowUpdate, 0, 0, 4)
	m.out = binary.BigEndian.AppendUint32(m.out, uint32(by))
}

// frame begins a frame whose n bytes of payload the caller appends.
func (m *mux) frame(kind, flags byte, stream uint32, n int) {
	m.out = append(m.out, byte(n>>16), byte(n>>8), byte(n), kind, flags)
	m.out = binary.BigEndian.AppendUint32(m.out, stream)
}

// block sends the fields of a head or of trailers.
func (m *mux) block(stream uint32, b []byte, end bool) {
	flags := byte(flagEndHeaders)
	if end {
		flags |= flagEndStream
	}
	at := len(m.out)
	m.frame(frameHeaders, flags, stream, len(b))
	m.out = append(m.out, b...)
	m.keepOrder(at)
}

// content sends b, at once or when the peer has room for it.
func (m *mux) content(stream uint32, b []byte, end bool) {
	flags := byte(0)
	if end {
		flags = flagEndStream
	}
	at := len(m.out)
	m.frame(frameData, flags, stream, len(b))
	m.out = append(m.out, b...)
	if m.keepOrder(at) {
		return
	}
	if m.window < len(b) {
		m.wait = append(m.wait, bytes.Clone(m.out[at:]))
		m.out = m.out[:at]
		return
	}
	m.window -= len(b)
}

// keepOrder puts the frame that begins at a place of out behind those that wait.
func (m *mux) keepOrder(at int) bool {
	if len(m.wait) == 0 {
		return false
	}
	m.wait = append(m.wait, bytes.Clone(m.out[at:]))
	m.out = m.out[:at]
	return true
}

// resume sends what waited and fits now.
func (m *mux) resume() {
	for len(m.wait) > 0 {
		f := m.wait[0]
		if f[3] == frameData {
			n := len(f) - frameHead
			if n > m.window {
				return
			}
			m.window -= n
		}
		m.out = append(m.out, f...)
		m.wait = m.wait[1:]
	}
}

// read takes the whole frames of b.
func (m *mux) read(b []byte) (used int, err error) {
	for len(b)-used >= frameHead {
		f := b[used:]
		n := int(f[0])<<16 | int(f[1])<<8 | int(f[2])
		if n > 1<<14 {
			return used, fmt.Errorf("a frame of %d bytes", n)
		}
		if len(f) < frameHead+n {
			break
		}
		if err := m.take(f[3], f[4], binary.BigEndian.Uint32(f[5:])&(1<<31-1), f[frameHead:frameHead+n]); err != nil {
			return used, err
		}
		used += frameHead + n
	}
	return used, nil
}

// flush writes what reading led to, in one go.
func (m *mux) flush() error {
	if len(m.out) == 0 {
		return nil
	}
	err := m.sock.sendCopy(m.out)
	m.out = m.out[:0]
	return err
}

func (m *mux) take(kind, flags byte, stream uint32, p []byte) error {
	switch kind {
	case frameHeaders:
		if flags&flagEndHeaders == 0 || flags&(flagPadded|flagPriority) != 0 {
			return fmt.Errorf("HEADERS with flags %#x", flags)
		}
		f, err := m.decode(p)
		if err != nil {
			return err
		}
		return m.on.fields(stream, f, flags&flagEndStream != 0)
	case frameData:
		if flags&flagPadded != 0 {
			return errors.New("padded DATA")
		}
		if m.owed += len(p); m.owed >= muxWindow/2 {
			m.widen(m.owed)
			m.owed = 0
		}
		return m.on.body(stream, len(p), flags&flagEndStream != 0)
	case frameSettings:
		return m.settings(flags, p)
	case framePing:
		if flags&flagAck == 0 {
			m.frame(framePing, flagAck, 0, len(p))
			m.out = append(m.out, p...)
		}
	case frameWindowUpdate:
		if stream == 0 && len(p) == 4 {
			m.window += int(binary.BigEndian.Uint32(p) & (1<<31 - 1))
			m.resume()
		}
	case frameReset:
		return fmt.Errorf("reset stream %d: %x", stream, p)
	case frameGoAway:
		return fmt.Errorf("sent GOAWAY %x", p)
	}
	return nil
}

func (m *mux) settings(flags byte, p []byte) error {
	if flags&flagAck != 0 {
		return nil
	}
	for ; len(p) >= 6; p = p[6:] {
		value := binary.BigEndian.Uint32(p[2:])
		switch binary.BigEndian.Uint16(p) {
		case settingTableSize:
			if value < 4096 {
				return fmt.Errorf("a header table of %d bytes", value)
			}
		case settingWindow:
			if value < 1<<15 { // no message here is longer, so streams are not counted
				return fmt.Errorf("a window of %d bytes for a stream", value)
			}
		}
	}
	m.frame(frameSettings, flagAck, 0, 0)
	return nil
}

// decode reads a block. One of nothing but entries of the table changes nothing,
// so the next that is equal says the same.
func (m *mux) decode(b []byte) (*fields, error) {
	if len(m.known) > 0 && bytes.Equal(b, m.known) {
		return &m.means, nil
	}
	m.now = fields{length: -1}
	if _, err := m.dec.Write(b); err != nil {
		return nil, fmt.Errorf("fields: %w", err)
	}
	if err := m.dec.Close(); err != nil {
		return nil, fmt.Errorf("fields: %w", err)
	}
	m.known = m.known[:0]
	if onlyIndexed(b) {
		m.known, m.means = append(m.known, b...), m.now
	}
	return &m.now, nil
}

func onlyIndexed(b []byte) bool {
	for _, c := range b {
		if c < 0x81 || c == 0xff {
			return false
		}
	}
	return true
}

// coder makes blocks with a table of its own, as a client or server of every
// day does: what was sent before is a byte.
type coder struct {
	buf bytes.Buffer
	enc *hpack.Encoder
}

func newCoder() *coder {
	c := &coder{}
	c.enc = hpack.NewEncoder(&c.buf)
	return c
}

// block of pairs of name and value.
func (c *coder) block(pairs ...string) []byte {
	c.buf.Reset()
	for i := 0; i < len(pairs); i += 2 {
		// A bytes.Buffer takes everything.
		_ = c.enc.WriteField(hpack.HeaderField{Name: pairs[i], Value: pairs[i+1]})
	}
	return bytes.Clone(c.buf.Bytes())
}
