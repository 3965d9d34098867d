package h2

import (
	"io"
	"net"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/mecha-mesh/mecha/proxy/header"
)

// reply is the head of a response.
func reply(status string, pairs ...string) *header.Map {
	m := &header.Map{}
	m.AddID(header.Status, status)
	for i := 0; i < len(pairs); i += 2 {
		m.Add(pairs[i], pairs[i+1])
	}
	return m
}

// soon is a generous deadline.
func soon() time.Time { return time.Now().Add(20 * time.Second) }

// peerOf is a client that writes frames as it likes.
type peerOf struct {
	t    testing.TB
	c    net.Conn
	fr   *http2.Framer
	henc *hpack.Encoder
	hbuf blockBuf
}

type blockBuf []byte

func (b *blockBuf) Write(p []byte) (int, error) { *b = append(*b, p...); return len(p), nil }

// newPeer sends the preface and SETTINGS.
func newPeer(t testing.TB, c net.Conn) *peerOf {
	t.Helper()
	_ = c.SetDeadline(soon())
	p := &peerOf{t: t, c: c, fr: http2.NewFramer(c, c)}
	p.henc = hpack.NewEncoder(&p.hbuf)
	p.fr.AllowIllegalReads, p.fr.AllowIllegalWrites = true, true
	p.fr.SetReuseFrames()
	if _, err := io.WriteString(c, clientPreface); err != nil {
		t.Fatal(err)
	}
	if err := p.fr.WriteSettings(); err != nil {
		t.Fatal(err)
	}
	return p
}

// block encodes fields, those of a GET if there are none.
func (p *peerOf) block(pairs ...string) []byte {
	p.hbuf = p.hbuf[:0]
	if len(pairs) == 0 {
		pairs = []string{":method", "GET", ":scheme", "http", ":path", "/", ":authority", "example.com"}
	}
	for i := 0; i < len(pairs); i += 2 {
		_ = p.henc.WriteField(hpack.HeaderField{Name: pairs[i], Value: pairs[i+1]})
	}
	return p.hbuf
}

// request writes a HEADERS frame.
func (p *peerOf) request(id uint32, end bool, pairs ...string) error {
	return p.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: p.block(pairs...), EndHeaders: true, EndStream: end})
}

// read reads frames until f has seen enough, or the end.
func (p *peerOf) read(f func(http2.Frame) bool) error {
	for {
		fr, err := p.fr.ReadFrame()
		if err != nil {
			return err
		}
		if f(fr) {
			return nil
		}
	}
}

// goAway reads until the GOAWAY that ends the connection and returns its code.
func (p *peerOf) goAway() ErrCode {
	p.t.Helper()
	code := ErrCode(0xffff)
	err := p.read(func(f http2.Frame) bool {
		if g, ok := f.(*http2.GoAwayFrame); ok {
			code = ErrCode(g.ErrCode)
			return true
		}
		return false
	})
	if err != nil {
		p.t.Errorf("no GOAWAY: %v", err)
	}
	return code
}
