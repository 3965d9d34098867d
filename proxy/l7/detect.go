package l7

import (
	"errors"
	"os"
	"time"

	"github.com/mecha-mesh/mecha/proxy/buffer"
	"github.com/mecha-mesh/mecha/proxy/filter"
)

// Codec is codec_type, which version of HTTP connections speak.
type Codec uint8

// The codecs.
const (
	AnyHTTP   Codec = iota // what ALPN says, or else what comes first
	OnlyHTTP1              // whatever ALPN says
	OnlyHTTP2
)

// preface is what tells an HTTP/2 connection by its first bytes (RFC 9113 3.4). No
// request of HTTP/1 begins so.
const preface = "PRI * HTTP/2"

// detect finds out which version a connection speaks, and serves it.
func (c *conn) detect() error {
	alpn := ""
	if t := c.down.Meta.TLS; t != nil {
		alpn = t.ALPN
	}
	switch codec := c.m.spec.Codec; {
	case codec == OnlyHTTP2, codec == AnyHTTP && alpn == "h2":
		return c.speak(newHTTP2(c))
	case codec == OnlyHTTP1, alpn != "":
		return c.speak(newHTTP1(c))
	}
	return c.look()
}

// look waits for the first bytes. A client that says nothing for a while costs no
// goroutine.
func (c *conn) look() error {
	sock := c.down.Engine.Socket()
	var first buffer.Buf
	by := c.parkAt()
	for {
		err := sock.SetReadDeadline(by)
		if err == nil {
			_, err = sock.ReadBuf(&first)
		}
		n := min(first.Len(), len(preface))
		p, _ := first.Peek(n)
		two := string(p) == preface[:n]
		switch {
		case n == len(preface) && two:
			sock.Unread(&first)
			if err := sock.SetReadDeadline(time.Time{}); err != nil {
				return c.close(err)
			}
			return c.speak(newHTTP2(c))
		case n > 0 && (!two || err != nil):
			sock.Unread(&first)
			return c.speak(newHTTP1(c))
		case err == nil: // not enough of the preface to tell
			continue
		case !errors.Is(err, os.ErrDeadlineExceeded):
			return c.close(err)
		}
		end, why := c.ends()
		if !end.IsZero() && !time.Now().Before(end) {
			return c.close(why)
		}
		if c.down.Engine.Park(end, c.lookAgain) {
			return filter.Parked
		}
		by = end
	}
}

// lookAgain continues a connection that was parked before it has said anything.
func (c *conn) lookAgain(readable bool) error {
	if !readable {
		_, why := c.ends()
		return c.close(why)
	}
	c.idleSince = time.Now() // so that look waits for what has made the socket readable
	return c.look()
}
