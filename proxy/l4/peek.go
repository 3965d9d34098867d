package l4

import (
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/mecha-mesh/mecha/proxy/buffer"
	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/meta"
	"github.com/mecha-mesh/mecha/proxy/netio"
)

// maxPeek bounds what one connection may make listener filters hold.
const maxPeek = buffer.LargeSlabSize

var errPeekTooMuch = errors.New("a listener filter asked for more than 64 KiB")

// peeker lends listener filters what has arrived. It reads into a slab, once;
// done gives the bytes back to the connection.
type peeker struct {
	conn     *netio.Conn
	down     *filter.Conn
	buf      buffer.Buf
	deadline time.Time // zero for none
	armed    bool
	failed   bool // reading failed, other than by an end or for want of time
}

// Peek implements filter.Peeker.
func (p *peeker) Peek(n int) ([]byte, error) {
	if n > maxPeek {
		p.failed = true
		return nil, errPeekTooMuch
	}
	for p.buf.Len() < n {
		if !p.armed && !p.deadline.IsZero() {
			p.armed = true
			if err := p.conn.SetReadDeadline(p.deadline); err != nil {
				return p.lend(), err
			}
		}
		if _, err := p.conn.ReadBufMax(&p.buf, maxPeek-p.buf.Len()); err != nil {
			p.failed = err != io.EOF && !errors.Is(err, os.ErrDeadlineExceeded)
			return p.lend(), err
		}
	}
	return p.lend(), nil
}

func (p *peeker) lend() []byte {
	b, _ := p.buf.Peek(p.buf.Len())
	return b
}

// Discard implements filter.Peeker.
func (p *peeker) Discard(n int) error {
	if n < 0 || n > p.buf.Len() {
		return fmt.Errorf("a listener filter discards %d bytes of %d: %w", n, p.buf.Len(), io.ErrShortBuffer)
	}
	p.buf.Discard(n)
	return nil
}

// Meta implements filter.Peeker.
func (p *peeker) Meta() *meta.Conn { return p.down.Meta }

// Conn implements filter.Peeker.
func (p *peeker) Conn() *filter.Conn { return p.down }

// Socket implements filter.Peeker.
func (p *peeker) Socket() *netio.Conn { return p.conn }

// done gives back what was read.
func (p *peeker) done() error {
	if p.buf.Len() > 0 {
		p.conn.Unread(&p.buf)
	}
	if p.armed {
		return p.conn.SetReadDeadline(time.Time{})
	}
	return nil
}
