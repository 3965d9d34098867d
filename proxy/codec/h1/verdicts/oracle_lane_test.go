//go:build oracle

package verdicts

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// How long nothing must move before the exchange counts as over, or, at a pause
// line, before the next write.
const (
	quietEnd   = 700 * time.Millisecond
	quietPause = 120 * time.Millisecond
)

// lane plays one exchange at a time.
type lane struct {
	listen  map[string]int // by variant
	logFile string
	logged  int64 // bytes of logFile that belong to earlier exchanges
	backend *backend
	moved   *activity
}

// activity is the time of the last byte either side saw.
type activity struct{ last atomic.Int64 }

func (a *activity) mark() { a.last.Store(time.Now().UnixNano()) }

// quiet waits until nothing has moved for d.
func (a *activity) quiet(d time.Duration) {
	for {
		left := d - time.Since(time.Unix(0, a.last.Load()))
		if left <= 0 {
			return
		}
		<-time.After(left)
	}
}

func newLane(logFile string) (*lane, error) {
	moved := &activity{}
	b, err := newBackend(moved)
	if err != nil {
		return nil, err
	}
	return &lane{listen: map[string]int{}, logFile: logFile, backend: b, moved: moved}, nil
}

func (l *lane) close() { l.backend.ln.Close() }

// play runs one exchange and says what was seen.
func (l *lane) play(c *Case) (Verdict, error) {
	l.backend.begin(c)
	old, err := os.ReadFile(l.logFile)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return Verdict{}, err
	}
	l.logged = int64(len(old))
	conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", l.listen[c.With]))
	if err != nil {
		return Verdict{}, err
	}
	defer conn.Close()
	cl := &client{conn: conn, moved: l.moved}
	l.moved.mark()
	var reader sync.WaitGroup
	reader.Go(cl.read)
	cl.send(c, l.moved)
	l.moved.quiet(quietEnd)
	raw, closed := cl.seen()
	v := Verdict{Closed: closed}
	v.Answers, v.Rest = messages(raw, answerRules(c))
	v.Upstream, v.UpRest = l.backend.seen()
	if v.Log, err = l.log(); err != nil {
		return v, err
	}
	conn.Close()
	reader.Wait()
	l.backend.end()
	l.moved.mark()
	l.moved.quiet(quietPause) // the log line of an unfinished request is not the next case's
	return v, nil
}

func (l *lane) log() ([]Entry, error) {
	text, err := os.ReadFile(l.logFile)
	if err != nil {
		return nil, err
	}
	var out []Entry
	for line := range strings.Lines(string(text[l.logged:])) {
		f := strings.SplitN(strings.TrimSpace(line), " ", 3)
		if len(f) == 3 {
			out = append(out, Entry{f[0], f[1], f[2]})
		}
	}
	return out, nil
}

// client is the downstream end.
type client struct {
	conn   net.Conn
	moved  *activity
	mu     sync.Mutex
	got    bytes.Buffer
	closed bool
}

func (c *client) read() {
	buf := make([]byte, 64<<10)
	for {
		n, err := c.conn.Read(buf)
		c.moved.mark()
		c.mu.Lock()
		c.got.Write(buf[:n])
		if err != nil {
			c.closed = true
		}
		c.mu.Unlock()
		if err != nil {
			return
		}
	}
}

// send writes the client's part; a proxy that closes early ends it.
func (c *client) send(cs *Case, moved *activity) {
	for i, w := range cs.Send {
		if i > 0 {
			moved.quiet(quietPause)
		}
		if _, err := c.conn.Write(w); err != nil {
			return
		}
		moved.mark()
	}
	if cs.ClientEOF {
		_ = c.conn.(*net.TCPConn).CloseWrite()
	}
}

func (c *client) seen() ([]byte, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return bytes.Clone(c.got.Bytes()), c.closed
}

// backend is the upstream end: it records what arrives and answers each request.
type backend struct {
	ln    net.Listener
	port  int
	moved *activity
	mu    sync.Mutex
	c     *Case
	conns []*upConn
}

type upConn struct {
	conn    net.Conn
	got     []byte
	heads   int // requests whose head was answered early
	replied int // requests answered
	done    chan struct{}
}

func newBackend(moved *activity) (*backend, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	b := &backend{ln: ln, port: ln.Addr().(*net.TCPAddr).Port, moved: moved}
	go b.accept()
	return b, nil
}

func (b *backend) accept() {
	for {
		conn, err := b.ln.Accept()
		if err != nil {
			return
		}
		u := &upConn{conn: conn, done: make(chan struct{})}
		b.mu.Lock()
		b.conns = append(b.conns, u)
		b.mu.Unlock()
		go b.serve(u)
	}
}

func (b *backend) begin(c *Case) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.c, b.conns = c, nil
}

func (b *backend) serve(u *upConn) {
	defer close(u.done)
	buf := make([]byte, 64<<10)
	for {
		n, err := u.conn.Read(buf)
		b.moved.mark()
		b.mu.Lock()
		u.got = append(u.got, buf[:n]...)
		c := b.c
		reqs, _ := messages(u.got, requestRules)
		b.mu.Unlock()
		for ; c.Early && u.heads < len(reqs); u.heads++ {
			b.reply(u.conn, c, writes(c, &reqs[u.heads])[:1])
		}
		for ; u.replied < len(reqs) && !reqs[u.replied].Incomplete; u.replied++ {
			w := writes(c, &reqs[u.replied])
			if c.Early {
				w = w[1:]
			}
			b.reply(u.conn, c, w)
		}
		if err != nil {
			return
		}
	}
}

// writes is the upstream's answer to req.
func writes(c *Case, req *Message) [][]byte {
	if c.Reply != nil {
		return c.Reply
	}
	text := DefaultReply
	if strings.HasPrefix(req.Start, "HEAD ") {
		text = strings.TrimSuffix(text, "ok")
	}
	return [][]byte{[]byte(text)}
}

// reply sends the writes; its pauses are shorter than the client's, so that an
// answer is over before the client goes on.
func (b *backend) reply(conn net.Conn, c *Case, writes [][]byte) {
	for i, w := range writes {
		if i > 0 {
			b.moved.quiet(quietPause / 2)
		}
		if _, err := conn.Write(w); err != nil {
			return
		}
		b.moved.mark()
	}
	if c.ReplyEOF {
		_ = conn.(*net.TCPConn).CloseWrite()
	}
}

func (b *backend) seen() (reqs []Message, rest []byte) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, u := range b.conns {
		r, left := messages(u.got, requestRules)
		reqs, rest = append(reqs, r...), append(rest, left...)
	}
	return reqs, rest
}

// end closes the upstream connections and waits until the proxy let go of them,
// so that the next exchange begins on a new one.
func (b *backend) end() {
	b.mu.Lock()
	conns := b.conns
	b.mu.Unlock()
	for _, u := range conns {
		_ = u.conn.(*net.TCPConn).CloseWrite()
		select {
		case <-u.done:
		case <-time.After(2 * time.Second):
		}
		u.conn.Close()
		_, _ = io.Copy(io.Discard, u.conn)
	}
}
