package redisproxy

import (
	"errors"
	"time"

	"github.com/mecha-mesh/mecha/proxy/buffer"
	"github.com/mecha-mesh/mecha/proxy/cluster"
	"github.com/mecha-mesh/mecha/proxy/codec/resp"
	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/netio"
)

const (
	// maxCommand bounds a command: it is complete before it is sent on. Before a client has
	// authenticated itself the bound is that of Redis.
	maxCommand        = 64 << 20
	maxCommandUnknown = 16 << 10
	// maxBatch bounds the bytes, maxOps the number of commands that are sent before the
	// replies are read. It is less than a socket takes, so that a host that answers before it
	// has read everything cannot wait for us while we wait for it.
	maxBatch = 16 << 10
	maxOps   = 256
)

// session serves one client at a time.
type session struct {
	*proxy
	conn    *filter.Conn
	sock    *netio.Conn
	in, out buffer.Buf

	scan resp.Scanner // of the command that is arriving
	seen int          // bytes of in that scan has seen
	size int          // of the command that is complete at the beginning of in, 0: none is
	args [][]byte     // its arguments, views of in

	ops     []op
	parts   []part
	said    buffer.Buf // replies of our own, in order
	bytes   int        // of the batch
	pending int64      // ops that are counted as being carried out
	links   []*link    // borrowed for the batch
	now     time.Time

	attempt cluster.Attempt
	authed  bool
	version int // of RESP, which the client has asked for
	db      int
	quit    bool
	then    func() error // what the goroutine has to do by itself before it goes on reading
	tx      transaction
	subs    subscriptions
}

var (
	_ filter.ConnTerminal = (*session)(nil)
	_ filter.ConnCloser   = (*session)(nil)
)

// Reset implements filter.Network.
func (s *session) Reset() {
	clear(s.args[:cap(s.args)])
	clear(s.links[:cap(s.links)])
	clear(s.parts[:cap(s.parts)])
	clear(s.ops[:cap(s.ops)])
	p := s.proxy
	args, links, parts, ops := s.args[:0], s.links[:0], s.parts[:0], s.ops[:0]
	*s = session{proxy: p, args: args, links: links, parts: parts, ops: ops}
}

// OnClose implements filter.ConnCloser.
func (s *session) OnClose(*filter.Conn, error) {
	if s.conn != nil {
		s.s.Active.Dec()
	}
}

// Serve implements filter.ConnTerminal.
func (s *session) Serve(c *filter.Conn) error {
	s.s.Total.Inc()
	s.s.Active.Inc()
	s.conn, s.sock = c, c.Engine.Socket()
	s.authed, s.version = len(s.c.Users) == 0, 2
	s.scan.MostElements = resp.MaxElements
	s.attempt = cluster.Attempt{Conn: c.Meta, Stream: &c.Log, State: c, Metadata: &c.Metadata, Shared: c.State.Shared()}
	defer s.end()
	for {
		err := s.read()
		if s.then != nil && err == nil {
			f := s.then
			s.then = nil
			err = f()
		}
		switch {
		case err != nil:
			return s.orderly(err)
		case s.quit:
			return nil
		}
	}
}

// orderly tells which ends of a connection are none of ours to complain about.
func (s *session) orderly(err error) error {
	if errors.Is(err, errProtocol) {
		return nil
	}
	return err
}

// end gives back what is held.
func (s *session) end() {
	s.tx.drop()
	s.subs.end()
	s.over()
	s.in.Release()
	s.out.Release()
}

// read serves what the client sends until somebody else is to have the goroutine.
func (s *session) read() error {
	if s.in.Len() > 0 {
		if on, err := s.turn(0); !on || err != nil {
			return err
		}
	}
	if !s.conn.Engine.Plain() {
		return s.receive()
	}
	var failed error
	err := s.sock.ReadEach(&s.in, func() bool {
		var on bool
		on, failed = s.turn(s.in.Len())
		return on && failed == nil
	})
	if failed != nil {
		return failed
	}
	return err
}

// receive is read for connections whose bytes pass filters before this one.
func (s *session) receive() error {
	for {
		before := s.in.Len()
		end, err := s.conn.Engine.Recv(&s.in)
		if err != nil {
			return err
		}
		on, err := s.turn(s.in.Len() - before)
		if err != nil || !on {
			return err
		}
		if end {
			s.quit = true
			return nil
		}
	}
}

// turn carries out the commands that are complete, a batch at a time. on tells whether more
// is to be read then.
func (s *session) turn(arrived int) (on bool, err error) {
	s.now = time.Now()
	s.s.Rx.Add(uint64(arrived))
	s.conn.Log.BytesReceived += int64(arrived)
	for {
		err := s.gather()
		if len(s.ops) == 0 && s.then == nil && err == nil {
			return true, nil
		}
		if failed := s.carryOut(); failed != nil {
			return false, failed
		}
		if err != nil {
			return false, err
		}
		if s.quit || s.then != nil {
			return false, nil
		}
	}
}

// errProtocol is a client that does not speak RESP. It has been told.
var errProtocol = errors.New("redis_proxy: the client does not speak RESP")

// gather plans the next batch.
func (s *session) gather() error {
	for len(s.ops) < maxOps && s.then == nil && !s.quit {
		ok, err := s.complete()
		if err != nil {
			s.s.BadProtocol.Inc()
			s.say("-downstream protocol error\r\n")
			return errProtocol
		}
		if !ok || s.bytes > 0 && s.bytes+s.size > maxBatch {
			return nil
		}
		if s.alone() && len(s.ops) > 0 {
			return nil
		}
		s.bytes += s.size
		s.s.Commands.Inc()
		s.plan()
		if s.size > 0 {
			s.in.Discard(s.size)
		}
		s.size, s.seen = 0, 0
		s.scan.Reset()
	}
	return nil
}

// complete reports whether a command is complete, and has its arguments then.
func (s *session) complete() (bool, error) {
	if s.size > 0 {
		return true, nil
	}
	if s.in.Len() == 0 {
		return false, nil
	}
	limit := maxCommand
	if !s.authed {
		limit = maxCommandUnknown
	}
	n, err := s.length(limit)
	if n == 0 || err != nil {
		if s.in.Len() > limit {
			err = resp.ErrSyntax
		}
		return false, err
	}
	s.size = n
	return true, s.arguments()
}

// length returns how long the command at the beginning of in is, 0 if it is not complete.
func (s *session) length(limit int) (int, error) {
	if s.in.First()[0] != resp.Array {
		p, _ := s.in.Peek(min(s.in.Len(), limit))
		_, n, err := resp.Command(p, nil)
		return n, err
	}
	at := 0
	for i := range s.in.Segments() {
		p := s.in.Segment(i)
		if at += len(p); at <= s.seen {
			continue
		}
		p = p[len(p)-(at-s.seen):]
		n, done, err := s.scan.Scan(p)
		s.seen += n
		if err != nil {
			return 0, err
		}
		if done {
			return s.seen, nil
		}
	}
	return 0, nil
}

// headRoom is how far the beginning of a large command is looked at for its name and key.
const headRoom = 4 << 10

// arguments takes the command apart; only its beginning if it is large.
func (s *session) arguments() error {
	s.args = s.args[:0]
	if s.size > headRoom {
		p, _ := s.in.Peek(headRoom)
		args, count, ok := resp.Head(p, s.args, 2)
		if ok && count >= 2 && s.untouched() {
			if c := s.commands.find(args[0]); c != nil && c.passes() {
				s.args = args
				for range count - 2 {
					s.args = append(s.args, nil) // they are there, and nobody looks at them
				}
				return nil
			}
		}
		s.args = args[:0]
	}
	p, _ := s.in.Peek(s.size)
	args, _, err := resp.Command(p, s.args)
	s.args = args
	return err
}

// untouched reports whether commands may go on as they are.
func (s *session) untouched() bool { return s.mirror == nil && !s.c.Routes.strips() && !s.tx.open }

// passes reports whether a command can go to its host without a look behind its key.
func (c *command) passes() bool {
	return c.kind == single && c.key == 1 && c.last == 0 && !c.counted && !c.streams
}

// say appends to the replies of the batch a reply of our own.
func (s *session) say(text string) {
	s.said.AppendString(text)
	s.local(len(text))
}

// local notes that the last n bytes of said are the next reply.
func (s *session) local(n int) { s.ops = append(s.ops, op{own: n}) }

// sayError is say for an error.
func (s *session) sayError(text string) {
	before := s.said.Len()
	resp.AppendLine(&s.said, resp.Error, text)
	s.local(s.said.Len() - before)
}

// write sends what is in out to the client.
func (s *session) write() error {
	n := s.out.Len()
	if n == 0 {
		return nil
	}
	s.subs.mu.Lock()
	defer s.subs.mu.Unlock()
	s.s.Tx.Add(uint64(n))
	s.conn.Log.BytesSent += int64(n)
	if s.conn.Engine.Plain() {
		return s.sock.WriteBuf(&s.out)
	}
	return s.conn.Engine.Send(&s.out, false)
}
