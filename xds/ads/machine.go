package ads

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// Event is something that happened to a stream. The set is closed.
type Event interface{ event() }

type (
	// SubscribeEvent adds names to a type's subscription; none, or Wildcard, is all of it.
	SubscribeEvent struct {
		TypeURL string
		// FetchTimeout is initial_fetch_timeout for the names that are new; 0 waits for ever.
		FetchTimeout time.Duration
		Names        []string
	}
	// UnsubscribeEvent takes names out again and forgets them; none means Wildcard.
	UnsubscribeEvent struct {
		TypeURL string
		Names   []string
	}
	// RefreshEvent asks for subscribed names once more and forgets their digests,
	// so that the answer is delivered even if nothing changed.
	RefreshEvent struct {
		TypeURL string
		Names   []string
	}
	// OpenedEvent: a stream is open, nothing has been sent on it.
	OpenedEvent struct{}
	// ClosedEvent: the stream ended, or opening one failed.
	ClosedEvent struct{}
	// ReceivedEvent: a response arrived. It returns a Deliver for a type in use.
	ReceivedEvent struct{ Response Response }
	// AppliedEvent answers a Deliver, before the next ReceivedEvent.
	AppliedEvent struct {
		TypeURL string
		Refused []Refusal
	}
	// TimerEvent: the timer started by StartTimer with this ID went off.
	TimerEvent struct{ ID uint64 }
)

func (SubscribeEvent) event()   {}
func (UnsubscribeEvent) event() {}
func (RefreshEvent) event()     {}
func (OpenedEvent) event()      {}
func (ClosedEvent) event()      {}
func (ReceivedEvent) event()    {}
func (AppliedEvent) event()     {}
func (TimerEvent) event()       {}

// Effect is something the shell must do. The set is closed. Requests are not
// effects: the shell asks for them with Next whenever it can send.
type Effect interface{ effect() }

type (
	// Deliver gives an update to the handler; AppliedEvent brings the verdicts back.
	Deliver struct{ Update Update }
	// Reconnect asks for a new stream after a back-off. Attempt counts streams in
	// a row that brought no response, from 0.
	Reconnect struct{ Attempt int }
	// StartTimer asks for a TimerEvent with this ID after the delay.
	StartTimer struct {
		ID    uint64
		After time.Duration
	}
	// StopTimer takes a StartTimer back; a TimerEvent that comes late is ignored.
	StopTimer struct{ ID uint64 }
	// TimedOut reports an initial fetch that was not answered in time.
	TimedOut struct{ TypeURL, Name string }
)

func (Deliver) effect()    {}
func (Reconnect) effect()  {}
func (StartTimer) effect() {}
func (StopTimer) effect()  {}
func (TimedOut) effect()   {}

// Request is the next message to send, for either variant.
type Request struct {
	TypeURL string
	// Node is set when this message must carry the node identity.
	Node bool
	// Nonce is the response this request answers (empty: none).
	Nonce string
	// Error is the NACK's message; empty is an ACK or a plain request.
	Error string

	Version string   // SotW: version_info
	Names   []string // SotW: resource_names

	Subscribe, Unsubscribe []string          // delta
	Initial                map[string]string // delta: initial_resource_versions
}

// maxPendingAcks bounds what a delta stream that can't send remembers; the oldest
// acknowledgement is dropped beyond it. A server never waits for one.
const maxPendingAcks = 64

// MaxErrorDetail bounds a NACK's message in bytes, as Envoy does.
const MaxErrorDetail = 4096

// Machine is the client side of one xDS stream and its successors. Not safe for
// concurrent use.
type Machine struct {
	variant  Variant
	nodeOnce bool

	types []*typeState // by rank, then by first subscription
	byURL map[string]*typeState

	open     bool
	nodeSent bool // on this stream
	attempt  int
	timerSeq uint64
	timers   map[uint64]timerKey
	stats    Stats
}

type timerKey struct{ typeURL, name string }

// NewMachine returns a machine with no subscription and no stream. With nodeOnce,
// only the first message of a stream carries the node (set_node_on_first_message_only).
func NewMachine(v Variant, nodeOnce bool) *Machine {
	return &Machine{
		variant:  v,
		nodeOnce: nodeOnce,
		byURL:    map[string]*typeState{},
		timers:   map[uint64]timerKey{},
		stats:    Stats{Types: map[string]TypeStats{}},
	}
}

// Step takes one event and returns what it causes, in order.
func (m *Machine) Step(e Event) []Effect {
	switch e := e.(type) {
	case SubscribeEvent:
		return m.subscribe(e)
	case UnsubscribeEvent:
		return m.unsubscribe(e)
	case RefreshEvent:
		m.refresh(e)
	case OpenedEvent:
		m.open, m.nodeSent = true, false
		m.stats.Connected = true
		m.stats.Connects++
	case ClosedEvent:
		return m.closed()
	case ReceivedEvent:
		return m.received(e.Response)
	case AppliedEvent:
		m.applied(e)
	case TimerEvent:
		return m.timer(e.ID)
	}
	return nil
}

// Next returns the next message due on the open stream and counts it as sent.
// Subscriptions made since the last call travel together in one message.
func (m *Machine) Next() (Request, bool) {
	if !m.open {
		return Request{}, false
	}
	for _, t := range m.types {
		if !t.due() {
			continue
		}
		r := t.nextSotW
		if m.variant == Delta {
			r = t.nextDelta
		}
		req := r()
		req.TypeURL = t.url
		req.Node = !m.nodeSent || !m.nodeOnce
		m.nodeSent = true
		return req, true
	}
	return Request{}, false
}

// Due is how many messages wait to be sent on the open stream.
func (m *Machine) Due() (n int) {
	if !m.open {
		return 0
	}
	for _, t := range m.types {
		if t.due() {
			n++
		}
	}
	return n
}

// Stats returns a copy of the counters.
func (m *Machine) Stats() Stats { return m.stats.clone() }

// Inventory returns what of a type was accepted; nil for a type never subscribed.
// It is lent: read it before the next Step.
func (m *Machine) Inventory(typeURL string) *Inventory {
	if t := m.byURL[typeURL]; t != nil {
		return &t.inventory
	}
	return nil
}

func (m *Machine) typeState(url string) *typeState {
	if t := m.byURL[url]; t != nil {
		return t
	}
	t := newTypeState(url, m.variant)
	m.byURL[url] = t
	i, _ := slices.BinarySearchFunc(m.types, rank(url)+1, func(t *typeState, r int) int { return rank(t.url) - r })
	m.types = slices.Insert(m.types, i, t)
	return t
}

func namesOrWildcard(names []string) []string {
	if len(names) == 0 {
		return []string{Wildcard}
	}
	return names
}

func (m *Machine) subscribe(e SubscribeEvent) []Effect {
	t := m.typeState(e.TypeURL)
	var out []Effect
	fresh := false
	for _, name := range namesOrWildcard(e.Names) {
		if !t.add(name) {
			continue
		}
		fresh = true
		if e.FetchTimeout > 0 {
			m.timerSeq++
			t.waiting[name] = m.timerSeq
			m.timers[m.timerSeq] = timerKey{t.url, name}
			out = append(out, StartTimer{m.timerSeq, e.FetchTimeout})
		}
	}
	if fresh {
		m.stats.edit(t.url, func(s *TypeStats) { s.UpdateAttempt++ })
	}
	return out
}

func (m *Machine) unsubscribe(e UnsubscribeEvent) []Effect {
	t := m.byURL[e.TypeURL]
	if t == nil {
		return nil
	}
	var out []Effect
	for _, name := range namesOrWildcard(e.Names) {
		t.remove(name)
		out = m.stopTimer(out, t, name)
	}
	return out
}

func (m *Machine) refresh(e RefreshEvent) {
	t := m.byURL[e.TypeURL]
	if t == nil {
		return
	}
	for _, name := range namesOrWildcard(e.Names) {
		t.again(name)
	}
}

func (m *Machine) closed() []Effect {
	m.open = false
	m.stats.Connected = false
	for _, t := range m.types {
		t.resetStream()
		m.stats.edit(t.url, func(s *TypeStats) { s.UpdateFailure++; s.UpdateAttempt++ })
	}
	m.stats.Disconnects++
	m.attempt++
	return []Effect{Reconnect{m.attempt - 1}}
}

func (m *Machine) received(r Response) []Effect {
	m.attempt = 0
	if r.ControlPlane != "" {
		m.stats.Identifier = r.ControlPlane
	}
	t := m.byURL[r.TypeURL]
	if t == nil || !t.requested {
		m.stats.Ignored++
		return nil
	}
	if t.pending != nil {
		panic("ads: a response came before the verdicts on the one before it: " + r.TypeURL)
	}
	t.nonce = r.Nonce
	t.crossed(r)
	u, refused := t.inventory.Diff(r, t.wanted, m.variant == SotW && t.complete())
	if m.variant == SotW && !t.wildcard {
		// A request that left a name out, to ask for it anew, was answered without it.
		u.Removed = slices.DeleteFunc(u.Removed, func(name string) bool {
			_, asked := t.anew[name]
			return asked
		})
	}
	if m.variant == Delta && t.wildcard {
		u.Removed = slices.DeleteFunc(u.Removed, func(name string) bool {
			_, named := t.want[name]
			return !named && !t.inventory.Has(name)
		})
	}
	u.First = !t.answered
	t.answered = true
	t.pending = &pending{update: u, refused: refused}

	out := m.stopTimer(nil, t, Wildcard)
	for _, res := range r.Resources {
		out = m.stopTimer(out, t, res.Name)
	}
	// That there is no such resource (delta) may change at any moment: whoever waits
	// for it waits on, but no longer than initial_fetch_timeout.
	return append(out, Deliver{u})
}

func (m *Machine) applied(e AppliedEvent) {
	t := m.byURL[e.TypeURL]
	if t == nil || t.pending == nil {
		return
	}
	p := t.pending
	t.pending = nil
	t.inventory.Commit(p.update, e.Refused)
	for _, res := range p.update.Changed {
		if !t.wanted(res.Name) {
			t.inventory.Forget(res.Name) // unsubscribed while the handler had it
		}
	}
	refused := append(p.refused, e.Refused...)
	if len(refused) == 0 {
		t.version = p.update.Version
	}
	m.stats.edit(t.url, func(s *TypeStats) {
		s.UpdateAttempt++
		s.Resources = t.inventory.Len()
		if len(p.update.Changed)+len(p.update.Removed) > 0 {
			s.Reloads++
		}
		if len(refused) > 0 {
			s.UpdateRejected++
			return
		}
		s.UpdateSuccess++
		s.SetVersion(p.update.Version)
	})
	if p.orphan || !m.open {
		return // the stream it came on is gone: nobody to answer
	}
	total := len(p.update.Changed) + p.update.Unchanged + len(p.refused)
	t.acknowledge(ack{nonce: t.nonce, err: errorDetail(t.url, total, refused)})
}

func (m *Machine) timer(id uint64) []Effect {
	key, ok := m.timers[id]
	if !ok {
		return nil
	}
	t := m.byURL[key.typeURL]
	t.waiting, m.timers = without(t.waiting, key.name), without(m.timers, id)
	m.stats.edit(key.typeURL, func(s *TypeStats) { s.InitFetchTimeout++; s.UpdateAttempt++ })
	return []Effect{TimedOut{key.typeURL, key.name}}
}

func (m *Machine) stopTimer(out []Effect, t *typeState, name string) []Effect {
	id, ok := t.waiting[name]
	if !ok {
		return out
	}
	t.waiting, m.timers = without(t.waiting, name), without(m.timers, id)
	return append(out, StopTimer{id})
}

// without deletes from a map that may have been large: an empty one is let go.
func without[K comparable, V any](m map[K]V, key K) map[K]V {
	delete(m, key)
	if len(m) == 0 {
		return map[K]V{}
	}
	return m
}

// errorDetail joins refusals into one NACK message; "" when there are none.
func errorDetail(typeURL string, total int, refused []Refusal) string {
	if len(refused) == 0 {
		return ""
	}
	var b strings.Builder
	fmt.Fprintf(&b, "Error adding/updating %s: %d of %d refused: ", ShortType(typeURL), len(refused), total)
	for i, r := range refused {
		if i > 0 {
			b.WriteString("; ")
		}
		fmt.Fprintf(&b, "%s: %v", r.Name, r.Err)
		if b.Len() > MaxErrorDetail {
			break
		}
	}
	const cut = "...(truncated)"
	s := strings.ToValidUTF8(b.String(), "\uFFFD")
	if len(s) > MaxErrorDetail {
		s = strings.ToValidUTF8(s[:MaxErrorDetail-len(cut)], "") + cut
	}
	return s
}
