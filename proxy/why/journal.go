package why

import (
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mecha-mesh/mecha/proxy/meta"
)

// Request is what an exchange is found by. All of it is lent for the call.
type Request struct {
	ID, Method, Host, Path string // Path with its query, which is not kept: it may have secrets
}

// Exchange is a request and its response as they are remembered.
type Exchange struct {
	ID, Method, Host, Path   string // Path without query
	Client                   meta.Addr
	Listener, FilterChain    string
	Start                    time.Time
	End                      time.Duration // since Start
	Code, Attempts           int
	Flags                    meta.Flag
	Protocol                 meta.Protocol
	RouteName, Cluster       string
	Details, UpstreamFailure string
	UpstreamHost             meta.Addr
	Decisions                []Told
	Lost                     int // decisions that there was no room for
	Phases                   []Phase
}

// Told is a Decision of which nothing is lent.
type Told struct {
	By, What, Of, Because, Peer string
	N, Place                    int
	At                          time.Duration
}

// WentWrong reports whether an exchange is worth keeping longer than others: it failed,
// was refused, or took more than one attempt.
func WentWrong(m *meta.Stream) bool {
	return m.Code == 0 || m.Code >= 500 || m.Flags != 0 || m.Attempts > 1 || m.Code >= 400 && m.Details != "via_upstream"
}

// The most bytes of a text that are kept.
const mostText = 256

// Journal keeps the newest exchanges, and those that went wrong longer. Its memory is
// bounded, and taken as it is needed. It may be used by any number of goroutines.
type Journal struct {
	all, wrong ring
}

// NewJournal makes a journal of n exchanges of each kind; n is at least 1.
func NewJournal(n int) *Journal {
	return &Journal{all: newRing(n), wrong: newRing(n)}
}

// ring is places that are written in turn.
type ring struct {
	next  atomic.Uint64
	slots []atomic.Pointer[slot]
}

func newRing(n int) ring { return ring{slots: make([]atomic.Pointer[slot], n)} }

// slot is one exchange, with its texts one after the other.
type slot struct {
	mu                     sync.Mutex
	number                 uint64 // in the order of their ends; 0: empty
	text                   []byte
	id, method, host, path span
	route, cluster         span
	details, failure       span
	client, upstream       meta.Addr
	listener, chain        string
	start                  time.Time
	end                    time.Duration
	code, attempts         int
	flags                  meta.Flag
	protocol               meta.Protocol
	decisions              []kept
	lost                   int
	phases                 []Phase
}

// span is where a text begins and ends in slot.text.
type span struct{ from, to uint16 }

// kept is a Decision whose lent texts are in slot.text.
type kept struct {
	by, what          string
	of, because, peer span
	n, place          int32
	at                time.Duration
}

// newSlot makes room for what most exchanges have, so that it need not grow.
func newSlot() *slot {
	return &slot{text: make([]byte, 0, mostText), decisions: make([]kept, 0, 8), phases: make([]Phase, 0, 8)}
}

// Keep remembers an exchange that is over. It copies what it keeps. c is the connection as
// it was accepted, client who the request comes from.
func (j *Journal) Keep(q Request, m *meta.Stream, c *meta.Conn, client meta.Addr, r *Record) {
	j.all.keep(q, m, c, client, r)
	if WentWrong(m) {
		j.wrong.keep(q, m, c, client, r)
	}
}

func (g *ring) keep(q Request, m *meta.Stream, c *meta.Conn, client meta.Addr, r *Record) {
	number := g.next.Add(1)
	place := &g.slots[number%uint64(len(g.slots))]
	s := place.Load()
	if s == nil {
		s = newSlot()
		if !place.CompareAndSwap(nil, s) {
			s = place.Load()
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.number > number {
		return // a whole round later than this one, which has been asleep
	}
	s.number = number
	s.fill(q, m, c, client, r)
}

// fill makes the slot one of that exchange.
func (s *slot) fill(q Request, m *meta.Stream, c *meta.Conn, client meta.Addr, r *Record) {
	s.text = s.text[:0]
	path, _, _ := strings.Cut(q.Path, "?")
	s.id, s.method, s.host, s.path = s.add(q.ID), s.add(q.Method), s.add(q.Host), s.add(path)
	s.route, s.cluster = s.add(m.RouteName), s.add(m.Cluster)
	s.details, s.failure = s.add(m.Details), s.add(m.UpstreamFailure)
	s.client, s.upstream, s.listener, s.chain = client, m.UpstreamHost, c.Listener, c.FilterChain
	s.start, s.end, s.code, s.attempts, s.flags, s.protocol = m.Start, m.End, m.Code, m.Attempts, m.Flags, m.Protocol
	list := r.Decisions()
	s.decisions, s.lost = s.decisions[:0], r.Lost()
	for i := range list {
		d := &list[i]
		s.decisions = append(s.decisions, kept{d.By, d.What, s.add(d.Of), s.add(d.Because), s.peer(d.Peer), int32(d.N), int32(d.Place), d.At})
	}
	s.phases = r.AppendPhases(s.phases[:0], m)
}

// Tell makes an Exchange without a journal. It copies what it keeps.
func Tell(q Request, m *meta.Stream, c *meta.Conn, client meta.Addr, r *Record) *Exchange {
	s := newSlot()
	s.fill(q, m, c, client, r)
	return s.exchange(0)
}

func (s *slot) add(text string) span {
	from := len(s.text)
	s.text = append(s.text, text[:min(len(text), mostText)]...)
	return span{uint16(from), uint16(len(s.text))}
}

func (s *slot) peer(a *meta.Addr) span {
	if a == nil {
		return span{}
	}
	from := len(s.text)
	s.text = a.AppendTo(s.text)
	return span{uint16(from), uint16(len(s.text))}
}

func (s *slot) get(at span) string { return string(s.text[at.from:at.to]) }

// Find returns the newest exchange with a request ID, nil if there is none any more.
func (j *Journal) Find(id string) *Exchange {
	if id == "" {
		return nil
	}
	var found *Exchange
	for _, g := range []*ring{&j.all, &j.wrong} {
		for e := range g.newest {
			if e.ID == id && (found == nil || e.Start.After(found.Start)) {
				found = e
			}
		}
	}
	return found
}

// Newest yields up to n exchanges, the newest first; of those that went wrong only, if wrong.
func (j *Journal) Newest(n int, wrong bool) (out []*Exchange) {
	g := &j.all
	if wrong {
		g = &j.wrong
	}
	for e := range g.newest {
		if len(out) == n {
			break
		}
		out = append(out, e)
	}
	return out
}

// newest yields copies of what the ring has, the newest first.
func (g *ring) newest(yield func(*Exchange) bool) {
	last := g.next.Load()
	for back := range uint64(len(g.slots)) {
		if back >= last {
			return
		}
		s := g.slots[(last-back)%uint64(len(g.slots))].Load()
		if s == nil {
			continue
		}
		if e := s.exchange(last - back); e != nil && !yield(e) {
			return
		}
	}
}

// exchange copies the slot, nil if it has another exchange by now, or none yet.
func (s *slot) exchange(number uint64) *Exchange {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.number != number {
		return nil
	}
	e := &Exchange{
		ID: s.get(s.id), Method: s.get(s.method), Host: s.get(s.host), Path: s.get(s.path), Client: s.client, Listener: s.listener, FilterChain: s.chain,
		Start: s.start, End: s.end, Code: s.code, Attempts: s.attempts, Flags: s.flags, Protocol: s.protocol,
		RouteName: s.get(s.route), Cluster: s.get(s.cluster), Details: s.get(s.details), UpstreamFailure: s.get(s.failure), UpstreamHost: s.upstream,
		Lost: s.lost, Phases: append([]Phase(nil), s.phases...),
	}
	for i := range s.decisions {
		k := &s.decisions[i]
		e.Decisions = append(e.Decisions, Told{
			By: k.by, What: k.what, Of: s.get(k.of), Because: s.get(k.because), Peer: s.get(k.peer), N: int(k.n), Place: int(k.place), At: k.at,
		})
	}
	return e
}
