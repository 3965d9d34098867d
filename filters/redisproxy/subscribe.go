package redisproxy

import (
	"bytes"
	"errors"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mecha-mesh/mecha/proxy/buffer"
	"github.com/mecha-mesh/mecha/proxy/cluster"
	"github.com/mecha-mesh/mecha/proxy/codec/resp"
)

// subscriptions are what a client has subscribed to. Each host that has one of its channels
// keeps a link of its own, read by a goroutine of its own, which hands messages on as they
// come. PUBLISH goes to the host of the channel's name, and so do subscriptions; a pattern
// may match the channels of any host and goes to all of them.
type subscriptions struct {
	links map[*cluster.Host]*subscriber
	// names are the channels and patterns by "c:" or "p:" (or "s:", of shards) and their name.
	names     map[string]bool
	confirmed chan struct{} // one for each confirmation that the client has been told

	mu      sync.Mutex // whoever writes to the client holds it while there are links
	readers sync.WaitGroup
}

type subscriber struct {
	l    *link
	lost chan struct{} // closed when nothing reads the link any more
	over atomic.Bool   // that is as it should be
	last atomic.Bool   // of the hosts that are asked for a pattern: only then is it in force everywhere, and the client told
}

// maxSubscriptions bounds how many there are of a client.
const maxSubscriptions = 100_000

var errLost = errors.New("redis_proxy: a host with subscriptions of the client has gone")

// active reports whether the client has subscriptions. In RESP2 it may do little else then.
func (u *subscriptions) active() bool { return len(u.names) > 0 }

// end closes the links and waits for their readers.
func (u *subscriptions) end() {
	for _, b := range u.links {
		b.over.Store(true)
		b.l.up.Cut()
	}
	u.readers.Wait()
	for _, b := range u.links {
		b.l.close()
	}
	u.links, u.names = nil, nil
}

// subscribe returns what carries out a (un)subscription once the batch is over: it needs
// the goroutine, and the connection, for itself.
func (s *session) subscribe(c *command, args [][]byte) func() error {
	return func() error {
		s.over()
		count := s.counts.Of(c.name)
		sort := sortOf(c.name)
		if c.kind == unsubscribe {
			return s.leave(c, sort, args[1:], count)
		}
		for _, name := range args[1:] {
			if err := s.join(c, sort, name); err != nil {
				count.Error.Inc()
				return err
			}
		}
		count.Success.Inc()
		return nil
	}
}

// sortOf returns what the names of a command are listed under.
func sortOf(name string) string {
	switch name[0] {
	case 'p':
		return "p:"
	case 's':
		if strings.HasPrefix(name, "ss") || strings.HasPrefix(name, "sun") {
			return "s:"
		}
	}
	return "c:"
}

// join subscribes to one channel or pattern.
func (s *session) join(c *command, sort string, name []byte) error {
	u := &s.subs
	if len(u.names) >= maxSubscriptions {
		return s.tell("-ERR too many subscriptions\r\n")
	}
	var to []target
	if sort == "p:" {
		to = s.hosts()
	} else if t, _, ok := s.targetOf(s.c.Routes.of(name), name, c); ok {
		to = append(to, t)
	}
	if len(to) == 0 {
		return s.tell("-" + noHost + "\r\n")
	}
	for i, t := range to {
		b, err := s.subscriber(t)
		if err != nil {
			return s.tell("-" + failure + "\r\n")
		}
		b.last.Store(i == len(to)-1)
	}
	if u.names == nil {
		u.names = map[string]bool{}
	}
	u.names[sort+string(name)] = true
	for _, t := range to {
		if err := s.confirm(u.links[t.h], []byte(strings.ToUpper(c.name)), name); err != nil {
			return err
		}
	}
	return nil
}

// confirm sends a (un)subscription and waits for the host's word, which its reader hands on.
func (s *session) confirm(b *subscriber, what, name []byte) error {
	resp.AppendArgs(&b.l.out, [][]byte{what, name})
	if err := b.l.up.WriteBuf(&b.l.out); err != nil {
		return errLost
	}
	late := time.NewTimer(s.c.OpTimeout)
	defer late.Stop()
	select {
	case <-s.subs.confirmed:
		return nil
	case <-b.lost:
		return errLost
	case <-late.C:
		return errLost
	case <-s.conn.Engine.Context().Done():
		return s.conn.Engine.Context().Err()
	}
}

// tell answers the client by itself.
func (s *session) tell(text string) error {
	s.out.AppendString(text)
	return s.write()
}

// subscriber returns the link for subscriptions at a host.
func (s *session) subscriber(t target) (*subscriber, error) {
	u := &s.subs
	if b := u.links[t.h]; b != nil {
		return b, nil
	}
	l, err := s.pool.borrow(s.conn.Engine.Context(), t.c, t.h, &s.attempt, s.now)
	if err != nil {
		return nil, err
	}
	if u.links == nil {
		u.links, u.confirmed = map[*cluster.Host]*subscriber{}, make(chan struct{})
	}
	b := &subscriber{l: l, lost: make(chan struct{})}
	l.expect(time.Now().Add(s.c.OpTimeout))
	if err := l.settle(); err != nil {
		return nil, err
	}
	l.expect(time.Time{})
	u.links[t.h] = b
	u.readers.Go(func() { s.follow(b) })
	return b, nil
}

// leave unsubscribes from names, or from all of a sort.
func (s *session) leave(c *command, sort string, names [][]byte, count *commandCounters) error {
	u := &s.subs
	count.Success.Inc()
	if len(names) == 0 {
		for name := range u.names {
			if text, ok := strings.CutPrefix(name, sort); ok {
				names = append(names, []byte(text))
			}
		}
	}
	if len(names) == 0 {
		return s.tell(s.farewell(c.name, nil))
	}
	for _, name := range names {
		if !u.names[sort+string(name)] {
			if err := s.tell(s.farewell(c.name, name)); err != nil {
				return err
			}
			continue
		}
		delete(u.names, sort+string(name))
		if err := s.withdraw(c, sort, name); err != nil {
			return err
		}
	}
	if !u.active() {
		u.end()
	}
	return nil
}

// withdraw ends one subscription.
func (s *session) withdraw(c *command, sort string, name []byte) error {
	what := []byte(strings.ToUpper(c.name))
	if sort != "p:" {
		t, _, _ := s.targetOf(s.c.Routes.of(name), name, c)
		if b := s.subs.links[t.h]; b != nil {
			return s.confirm(b, what, name)
		}
		return s.tell(s.farewell(c.name, name))
	}
	for _, b := range s.subs.links {
		if err := s.confirm(b, what, name); err != nil {
			return err
		}
	}
	return nil
}

// farewell is the confirmation of an unsubscription that no host needs to know of.
func (s *session) farewell(what string, name []byte) string {
	kind := "*3"
	if s.version == 3 {
		kind = ">3"
	}
	text := "$-1\r\n"
	if s.version == 3 {
		text = "_\r\n"
	}
	if name != nil {
		text = "$" + strconv.Itoa(len(name)) + "\r\n" + string(name) + "\r\n"
	}
	return kind + "\r\n$" + strconv.Itoa(len(what)) + "\r\n" + what + "\r\n" + text + ":" + strconv.Itoa(len(s.subs.names)) + "\r\n"
}

// follow reads what a host has to say of subscriptions, until the link ends.
func (s *session) follow(b *subscriber) {
	for {
		if _, err := b.l.heading(); err != nil {
			break
		}
		var message buffer.Buf
		if err := b.l.body(&message, nil); err != nil {
			message.Release()
			break
		}
		if !s.forward(b, &message) {
			break
		}
	}
	close(b.lost)
	if !b.over.Load() {
		s.sock.Cut() // who subscribed has to subscribe again, elsewhere
	}
}

// forward gives the client a message. It reports false if that was in vain.
func (s *session) forward(b *subscriber, message *buffer.Buf) bool {
	head, _ := message.Peek(min(message.Len(), 32))
	word := firstWord(head)
	told := bytes.HasSuffix(word, []byte("subscribe"))
	if told && word[0] == 'p' && !b.last.Load() {
		message.Release()
	} else if told {
		recount(message, len(s.subs.names))
	}
	if err := s.hand(message); err != nil {
		return false
	}
	if told {
		select {
		case s.subs.confirmed <- struct{}{}:
		case <-s.conn.Engine.Context().Done():
			return false
		case <-time.After(s.c.OpTimeout): // nobody waits any more: the client is being cut off
			return false
		}
	}
	return true
}

// hand writes to the client what another goroutine brings.
func (s *session) hand(message *buffer.Buf) error {
	n := message.Len()
	if n == 0 {
		return nil
	}
	s.subs.mu.Lock()
	defer s.subs.mu.Unlock()
	s.s.Tx.Add(uint64(n))
	if s.conn.Engine.Plain() {
		return s.sock.WriteBuf(message)
	}
	return s.conn.Engine.Send(message, false)
}

// firstWord returns the first element of an array, if it is a bulk string.
func firstWord(p []byte) []byte {
	i := bytes.IndexByte(p, '\n')
	if i < 0 || i+1 >= len(p) || p[i+1] != resp.BulkString {
		return nil
	}
	p = p[i+1:]
	if i = bytes.IndexByte(p, '\n'); i < 0 {
		return nil
	}
	p = p[i+1:]
	if i = bytes.IndexByte(p, '\r'); i < 0 {
		return nil
	}
	return p[:i]
}

// recount replaces the last element of a confirmation, the number of subscriptions that a
// host knows of, by that of the client.
func recount(message *buffer.Buf, n int) {
	raw := message.Bytes()
	i := bytes.LastIndexByte(raw, ':')
	if i < 0 {
		return
	}
	message.Truncate(i)
	resp.AppendInteger(message, int64(n))
}
