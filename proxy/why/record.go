// Package why remembers what was decided about requests: which route, which rule of a
// policy, which host, why another attempt, and where the time went.
//
// What comes in: decisions, from whoever makes them, while a request is on its way (Record),
// and at its end all of them at once (Journal.Keep). What goes out: Exchanges, for people.
// A Record belongs to its stream and costs it no allocation; the Journal is a ring of fixed
// size, of which those exchanges that went wrong have a part of their own.
package why

import (
	"sync/atomic"
	"time"

	"github.com/mecha-mesh/mecha/proxy/meta"
)

// Who decides, besides the filters, which have the names that their chain gives them.
const (
	Manager    = "connection manager"
	Route      = "route"
	Balancer   = "load balancer"
	Connection = "upstream connection"
	Retry      = "retry"
)

// Decision is one thing that was decided.
type Decision struct {
	By   string // who: a filter, or one of the names above
	What string // the verdict in a word or two, a constant
	// Of is what the verdict is about or goes by, such as the name of a rule; it may be lent
	// for as long as the stream lives.
	Of string
	// Because says more: response code details, the reason of a failure; lent as Of is.
	Because string
	Peer    *meta.Addr    // the host it is about, lent; nil: it is about none
	N       int           // a number that belongs to it, such as a status code; 0: none
	Place   int           // of a route in its list, and one more; 0: none
	At      time.Duration // since the start of the stream
}

// most is how many decisions of a stream are remembered.
const most = 24

// Record is the decisions about one stream, and the time that its filters took. It may be
// written by the goroutines of the request and of the response at once, and is read when
// both are done. The zero value is empty.
type Record struct {
	n    atomic.Uint32
	list [most]Decision

	// Filters are the names of the filters of the chain; Asked and Answered is the time that
	// each of them took over the heads of request and response. They have the same length.
	Filters         []string
	Asked, Answered []time.Duration
	// Head is when the request head had been read and the first filter saw it; 0: never.
	Head time.Duration
	Pool Pool
}

// Pool is the time that attempts waited for their connections, summed up over all of them.
type Pool struct {
	Queue   time.Duration // for a connection that others used, or that others made
	Connect time.Duration // for TCP
	TLS     time.Duration // for the handshake
	BackOff time.Duration // between attempts
}

// Note adds a decision. The first ones are kept.
func (r *Record) Note(d Decision) {
	if i := r.n.Add(1) - 1; i < most {
		r.list[i] = d
	}
}

// Decisions are those that were kept, in order. They are lent.
func (r *Record) Decisions() []Decision { return r.list[:min(r.n.Load(), most)] }

// Lost is how many more there were.
func (r *Record) Lost() int { return max(int(r.n.Load())-most, 0) }

// Begin makes the record one of a chain with those filters, which it shares.
func (r *Record) Begin(filters []string) {
	both := make([]time.Duration, 2*len(filters))
	r.Filters, r.Asked, r.Answered = filters, both[:len(filters):len(filters)], both[len(filters):]
}

// Reset forgets what was decided, for the next stream of the same chain.
func (r *Record) Reset() {
	clear(r.Decisions()) // what they point to may be given back
	r.n.Store(0)
	clear(r.Asked)
	clear(r.Answered)
	r.Head, r.Pool = 0, Pool{}
}
