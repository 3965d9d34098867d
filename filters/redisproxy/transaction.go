package redisproxy

import (
	"strings"

	"github.com/mecha-mesh/mecha/proxy/codec/resp"
)

// transaction is MULTI to EXEC, and WATCH before it. All of it goes over one link, to the
// host of the first key: hosts that are no cluster know nothing of each other's keys.
type transaction struct {
	open bool  // MULTI was said
	l    *link // nil until there was a key
}

// drop ends the transaction. What is under way on the link ends with it.
func (t *transaction) drop() {
	if t.l != nil {
		t.l.close()
	}
	*t = transaction{}
}

// keep ends the transaction after EXEC or DISCARD: the link is as good as before.
func (s *session) keep() {
	if s.tx.l != nil {
		s.links = append(s.links, s.tx.l)
	}
	s.tx = transaction{}
}

// transact is MULTI, EXEC, DISCARD, WATCH, UNWATCH.
func (s *session) transact(c *command) {
	count := s.counted(c)
	switch t := &s.tx; c.name {
	case "multi":
		if t.open {
			count.Error.Inc()
			s.sayError("MULTI calls can not be nested")
			return
		}
		t.open = true
		if t.l != nil { // it has been watching
			s.begin()
		}
		s.say("+OK\r\n")
	case "exec", "discard":
		if !t.open {
			count.Error.Inc()
			s.sayError(strings.ToUpper(c.name) + " without MULTI")
			return
		}
		if t.l != nil {
			resp.AppendArgs(&t.l.out, s.args[:1])
			s.ask(t.l, asIs)
			s.ops[len(s.ops)-1].c, s.ops[len(s.ops)-1].count = c, count
			s.keep()
			return
		}
		*t = transaction{}
		if c.name == "exec" {
			s.say("*0\r\n")
		} else {
			s.say("+OK\r\n")
		}
	case "watch":
		s.watch(c, count)
		return
	default: // unwatch
		if t.l != nil && !t.open {
			resp.AppendArgs(&t.l.out, s.args[:1])
			s.ask(t.l, asIs)
			s.ops[len(s.ops)-1].c, s.ops[len(s.ops)-1].count = c, count
			s.keep()
			return
		}
		s.say("+OK\r\n")
	}
	count.Success.Inc()
}

func (s *session) watch(c *command, count *commandCounters) {
	switch {
	case len(s.args) < 2:
		count.Error.Inc()
		s.refuse(invalid)
		return
	case s.tx.open:
		count.Error.Inc()
		s.sayError("ERR WATCH inside MULTI is not allowed")
		return
	}
	if !s.pin(s.args[1], c) {
		count.Error.Inc()
		return
	}
	resp.AppendArgs(&s.tx.l.out, s.args)
	s.ask(s.tx.l, asIs)
	s.ops[len(s.ops)-1].c, s.ops[len(s.ops)-1].count = c, count
}

// pin gives the transaction a link of its own, to the host of a key. If it cannot have one
// the client has been told.
func (s *session) pin(key []byte, c *command) bool {
	if s.tx.l != nil {
		return true
	}
	t, _, ok := s.targetOf(s.c.Routes.of(key), key, c)
	if !ok {
		s.sayError(noHost)
		return false
	}
	l, err := s.pool.borrow(s.conn.Engine.Context(), t.c, t.h, &s.attempt, s.now)
	if err != nil {
		s.sayError(failure)
		return false
	}
	s.choose(l)
	s.tx.l = l
	return true
}

// begin says MULTI to the host. The client has its +OK already.
func (s *session) begin() {
	resp.AppendCommand(&s.tx.l.out, "MULTI")
	s.tx.l.sent(false)
}

// inTransaction deals with a command that comes between MULTI and EXEC, or after WATCH. It
// reports false if it is none of the transaction's business.
func (s *session) inTransaction(c *command) bool {
	if !s.tx.open {
		return false
	}
	key := -1
	switch c.kind {
	case single, script:
		c.keys(s.args, func(i int) bool { key = i; return false })
	case eachGet, eachSet, eachSum:
		key = 1
	}
	if key < 0 || c.blocking {
		s.sayError("'" + strings.ToUpper(c.name) + "' command is not supported within transaction")
		return true
	}
	if s.tx.l == nil {
		if !s.pin(s.args[key], c) {
			return true
		}
		s.begin()
	}
	args := s.args
	if to := s.c.Routes.of(s.args[key]); to != nil {
		args = s.stripped(to, c)
	}
	resp.AppendArgs(&s.tx.l.out, args)
	s.ask(s.tx.l, asIs)
	return true
}
