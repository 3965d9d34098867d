package redisproxy

import (
	"strconv"
	"time"

	"github.com/mecha-mesh/mecha/proxy/buffer"
	"github.com/mecha-mesh/mecha/proxy/cluster"
	"github.com/mecha-mesh/mecha/proxy/codec/resp"
	"github.com/mecha-mesh/mecha/proxy/stats"
)

// carryOut sends the batch, reads the replies, and answers the client.
func (s *session) carryOut() error {
	s.pending = int64(len(s.ops))
	s.s.Pending.Add(s.pending)
	s.send(s.now.Add(s.c.OpTimeout))
	if s.then != nil {
		return nil
	}
	return s.replies()
}

// send sends the batch. Replies are waited for until then.
func (s *session) send(until time.Time) {
	alone := len(s.links) == 1 && s.tx.l == nil && s.then == nil
	for _, l := range s.links {
		l.expect(until)
		l.flush(alone)
	}
	if l := s.tx.l; l != nil {
		l.expect(until)
		l.flush(false)
	}
}

// replies reads the replies of the batch and answers the client.
func (s *session) replies() error {
	next := 0
	for i := range s.ops {
		o := &s.ops[i]
		if err := s.collect(o, s.parts[next:next+o.parts]); err != nil {
			return err
		}
		next += o.parts
	}
	s.over()
	return s.write()
}

// over ends the batch, wherever it has got to.
func (s *session) over() {
	s.s.Pending.Add(-s.pending)
	s.pending = 0
	for _, l := range s.links {
		s.pool.giveBack(l, s.now)
	}
	for i := range s.parts {
		if b := s.parts[i].sent; b != nil {
			b.Release()
		}
	}
	clear(s.links)
	s.links, s.parts, s.ops, s.bytes = s.links[:0], s.parts[:0], s.ops[:0], 0
	s.said.Release()
}

// collect appends the reply of an op to out.
func (s *session) collect(o *op, parts []part) error {
	if len(parts) == 0 {
		s.out.Move(&s.said, o.own)
		return nil
	}
	good, err := s.gatherReplies(o, parts)
	if c := o.count; c != nil {
		if good {
			c.Success.Inc()
		} else {
			c.Error.Inc()
		}
		took := time.Since(s.now)
		if s.c.Micros {
			c.Latency.Record(uint64(took.Microseconds()))
		} else {
			c.Latency.Record(uint64(took.Milliseconds()))
		}
	}
	return err
}

// gatherReplies reports whether the reply is none of an error.
func (s *session) gatherReplies(o *op, parts []part) (good bool, err error) {
	switch o.shape {
	case asIs:
		return s.relay(&parts[0], o)
	case scanned:
		return s.scanReply(&parts[0], o), nil
	case list:
		resp.AppendHeader(&s.out, resp.Array, len(parts))
		good = true
		for i := range parts {
			ok, err := s.relay(&parts[i], o)
			if err != nil {
				return false, err
			}
			good = good && ok
		}
		return good, nil
	}
	return s.combine(o, parts), nil
}

// relay appends the reply of a host to out, and sends some of it already if it is large.
func (s *session) relay(p *part, o *op) (good bool, err error) {
	if p.l == nil {
		resp.AppendLine(&s.out, resp.Error, p.text)
		return false, nil
	}
	kind, err := p.l.head()
	if err != nil {
		resp.AppendLine(&s.out, resp.Error, failure)
		return false, nil
	}
	if s.c.Redirection && kind == resp.Error {
		return s.redirected(p, o)
	}
	p.l.came()
	var broken error
	before := s.out.Len()
	err = p.l.body(&s.out, func() error {
		before = -1
		broken = s.write()
		return broken
	})
	switch {
	case broken != nil:
		return false, broken
	case err != nil && before < 0:
		return false, err // the client has half a reply: there is nothing left to say
	case err != nil:
		s.out.Truncate(before)
		resp.AppendLine(&s.out, resp.Error, failure)
		return false, nil
	}
	s.tally(o, p.l, kind)
	// A host that says no has answered: that counts as a success, as with Envoy. What is
	// put together of several replies is one only if none of them is an error.
	return o.shape == asIs || kind != resp.Error && kind != resp.BulkError, nil
}

// combine reads the replies of all parts and appends one.
func (s *session) combine(o *op, parts []part) bool {
	replies := make([]reply, len(parts))
	errors := 0
	for i := range parts {
		s.whole(&replies[i], &parts[i], o)
		if replies[i].failed() {
			errors++
		}
	}
	combined := combine(&s.out, o, replies, errors)
	for i := range replies {
		replies[i].release()
	}
	return combined
}

// reply is a reply as a whole.
type reply struct {
	kind byte
	line string // the first
	body buffer.Buf
}

func (r *reply) failed() bool { return r.kind == resp.Error || r.kind == resp.BulkError }
func (r *reply) release()     { r.body.Release() }

// number returns the number of an integer, or how many elements an aggregate has.
func (r *reply) number() int64 {
	if len(r.line) < 2 {
		return 0
	}
	n, _ := strconv.ParseInt(r.line[1:], 10, 64) // what is none counts as nothing
	return n
}

// whole reads the reply of a part. What cannot be had is an error reply.
func (s *session) whole(r *reply, p *part, o *op) {
	text := p.text
	if p.l != nil {
		text = failure
		kind, err := p.l.head()
		if err == nil {
			p.l.came()
			err = p.l.body(&r.body, nil)
		}
		if err == nil {
			r.kind, r.line = kind, string(p.l.scan.Line())
			s.tally(o, p.l, kind)
			return
		}
		r.body.Release()
	}
	r.kind, r.line = resp.Error, "-"+text
	resp.AppendLine(&r.body, resp.Error, text)
}

// hostCounters is cluster.<name>.redis_cluster.upstream_commands.<command>.*.
type hostCounters struct {
	Total   stats.Counter   `stat:"total" help:"commands sent to hosts"`
	Success stats.Counter   `stat:"success" help:"commands that hosts answered without an error"`
	Failure stats.Counter   `stat:"failure" help:"commands that hosts answered with an error"`
	Latency stats.Histogram `stat:"latency" help:"microseconds until the reply"`
}

// tally counts a reply of a host.
func (s *session) tally(o *op, l *link, kind byte) {
	if !s.c.HostStats || o.c == nil {
		return
	}
	n, _ := l.cluster.Extra(cluster.ExtraStats{Of: "redis_cluster", A: "upstream_commands", B: o.c.name}, bindHost).(*hostCounters)
	if n == nil {
		return
	}
	n.Total.Inc()
	if kind == resp.Error || kind == resp.BulkError {
		n.Failure.Inc()
	} else {
		n.Success.Inc()
	}
	n.Latency.Record(uint64(time.Since(s.now).Microseconds()))
}

func bindHost(sc *stats.Scope, key cluster.ExtraStats) any {
	n := new(hostCounters)
	if sc != nil {
		sc = sc.Child(key.Of).Child(key.A).Child(key.B)
		sc.Bind(n)
	}
	return n
}
