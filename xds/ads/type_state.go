package ads

import (
	"maps"
	"slices"
	"strings"
)

// typeState is one type's subscription: what is wanted (kept for the life of the
// client) and what the open stream's server has been told (reset with it).
type typeState struct {
	url   string
	delta bool

	wildcard  bool
	want      map[string]struct{} // names; never holds Wildcard
	waiting   map[string]uint64   // name -> its fetch timer
	inventory Inventory
	version   string // of the last response accepted whole
	answered  bool
	pending   *pending

	// Of this stream.
	requested bool
	nonce     string
	dirty     bool                // SotW: names changed since the last request
	named     bool                // a request carried names: empty no longer means wildcard
	told      map[string]struct{} // names (delta: or Wildcard) the server knows of; SotW: may know of
	before    map[string]struct{} // SotW: told before the last request, by any with the same nonce
	sent      string              // SotW: that nonce
	skip      map[string]struct{} // SotW: told names to leave out of one request, so that the next one asks for them anew
	anew      map[string]struct{} // SotW: names asked for anew that have not come yet
	sub       map[string]struct{} // delta: to subscribe
	unsub     map[string]struct{} // delta: to unsubscribe
	acks      []ack
}

// pending is a delivery whose verdicts are awaited.
type pending struct {
	update  Update
	refused []Refusal // before delivery
	orphan  bool      // its stream has closed
}

type ack struct{ nonce, err string }

func newTypeState(url string, v Variant) *typeState {
	t := &typeState{url: url, delta: v == Delta, want: map[string]struct{}{}, waiting: map[string]uint64{}}
	t.resetStream()
	return t
}

func (t *typeState) resetStream() {
	t.requested, t.dirty, t.named, t.nonce, t.sent, t.acks = false, false, false, "", "", nil
	t.told, t.before = map[string]struct{}{}, map[string]struct{}{}
	t.skip, t.anew = map[string]struct{}{}, map[string]struct{}{}
	t.sub, t.unsub = map[string]struct{}{}, map[string]struct{}{}
	if t.pending != nil {
		t.pending.orphan = true
	}
}

// wanted reports whether a resource of that name was asked for. Who asks for the name of a
// route table gets all virtual hosts of it that come.
func (t *typeState) wanted(name string) bool {
	if t.wildcard {
		return true
	}
	_, ok := t.want[name]
	if i := strings.LastIndexByte(name, '/'); !ok && i > 0 && t.url == VirtualHostType {
		_, ok = t.want[name[:i]]
	}
	return ok
}

// complete reports whether a response of the whole state holds all that the server has of
// what was asked for, so that what is missing was removed: always for listeners and clusters
// (xDS protocol, "Deleting resources"), for other types only where all of them are wanted.
func (t *typeState) complete() bool {
	return t.wildcard || t.url == ListenerType || t.url == ClusterType
}

// add subscribes to a name and reports whether it is new.
func (t *typeState) add(name string) bool {
	if name == Wildcard {
		if t.wildcard {
			return false
		}
		t.wildcard = true
	} else {
		if _, ok := t.want[name]; ok {
			return false
		}
		t.want[name] = struct{}{}
	}
	t.ask(name)
	return true
}

// remove unsubscribes. What is no longer wanted is forgotten, so that subscribing
// again delivers it again even if its bytes did not change.
func (t *typeState) remove(name string) {
	if name == Wildcard {
		if !t.wildcard {
			return
		}
		t.wildcard = false
		t.forgetUnwanted()
	} else {
		if _, ok := t.want[name]; !ok {
			return
		}
		delete(t.want, name)
		if !t.wildcard {
			t.inventory.Forget(name)
		}
		if t.url == VirtualHostType {
			t.forgetUnwanted()
		}
	}
	if !t.requested {
		return
	}
	t.dirty = true
	delete(t.sub, name)
	if _, ok := t.told[name]; ok {
		t.unsub[name] = struct{}{}
	} else if name == Wildcard {
		t.unsub[name] = struct{}{} // told by an empty first request
	}
}

func (t *typeState) forgetUnwanted() {
	for _, held := range t.inventory.Names() {
		if !t.wanted(held) {
			t.inventory.Forget(held)
		}
	}
}

// again forgets the bytes of a subscribed name and asks for it once more.
func (t *typeState) again(name string) {
	if name == Wildcard {
		if !t.wildcard {
			return
		}
		for _, held := range t.inventory.Names() {
			t.inventory.Void(held)
		}
	} else {
		if !t.wanted(name) {
			return
		}
		t.inventory.Void(name)
		if _, ok := t.want[name]; !ok {
			return // covered by a wildcard: the server can't be asked for one of it
		}
	}
	t.ask(name)
}

func (t *typeState) ask(name string) {
	if !t.requested {
		return // the first request of the stream names everything
	}
	t.dirty = true
	if t.delta {
		t.sub[name] = struct{}{}
		delete(t.unsub, name)
		return
	}
	if _, ok := t.told[name]; ok && !t.wildcard {
		t.askAnew(name)
	} else if _, ok := t.before[name]; ok {
		t.anew[name] = struct{}{} // should the request that left it out prove void
	}
}

// askAnew makes a server of the whole state send a name that it was told before: it
// sends nothing where it sees no change.
func (t *typeState) askAnew(name string) {
	t.dirty = true
	t.skip[name], t.anew[name] = struct{}{}, struct{}{}
}

// crossed notes that a response came. If the server sent it before it read the last
// request, that one carries an old nonce and is void: then the server still knows the
// names of an earlier one, and what was asked for anew has to be asked for again.
func (t *typeState) crossed(r Response) {
	if t.delta {
		return
	}
	maps.Copy(t.told, t.before)
	for _, res := range r.Resources {
		delete(t.anew, res.Name)
	}
	for name := range t.anew {
		if _, ok := t.want[name]; ok && !t.wildcard {
			t.askAnew(name)
		} else {
			delete(t.anew, name)
		}
	}
}

func (t *typeState) due() bool {
	if !t.requested {
		return t.wildcard || len(t.want) > 0
	}
	return len(t.acks) > 0 || t.dirty
}

func (t *typeState) acknowledge(a ack) {
	switch {
	case !t.delta:
		t.acks = append(t.acks[:0], a) // the newest nonce is the only one that counts
	case len(t.acks) == maxPendingAcks:
		copy(t.acks, t.acks[1:])
		t.acks[maxPendingAcks-1] = a
	default:
		t.acks = append(t.acks, a)
	}
}

func (t *typeState) takeAck() ack {
	if len(t.acks) == 0 {
		return ack{}
	}
	a := t.acks[0]
	t.acks = append(t.acks[:0], t.acks[1:]...)
	return a
}

// nextSotW builds a DiscoveryRequest: the last version accepted, the last nonce
// received, and always the whole set of names, but for those to be asked for anew.
func (t *typeState) nextSotW() Request {
	names := slices.DeleteFunc(sortedKeys(t.want), func(name string) bool {
		_, ok := t.skip[name]
		return ok
	})
	r := Request{Version: t.version, Nonce: t.nonce, Error: t.takeAck().err, Names: names}
	if t.sent != t.nonce {
		t.sent = t.nonce
		clear(t.before)
	}
	maps.Copy(t.before, t.told)
	clear(t.told)
	for _, name := range names {
		t.told[name] = struct{}{}
	}
	if t.wildcard && (len(r.Names) > 0 || t.named) {
		r.Names = append([]string{Wildcard}, r.Names...)
	}
	t.named = t.named || len(r.Names) > 0
	t.requested, t.dirty = true, len(t.skip) > 0
	clear(t.skip)
	return r
}

// nextDelta builds a DeltaDiscoveryRequest: on a new stream everything wanted and
// what is already held, later only the changes.
func (t *typeState) nextDelta() Request {
	if !t.requested {
		return t.firstDelta()
	}
	a := t.takeAck()
	if _, explicit := t.told[Wildcard]; t.wildcard && !explicit && len(t.sub) > 0 {
		t.sub[Wildcard] = struct{}{} // names added to a wildcard that was implied so far
	}
	r := Request{Nonce: a.nonce, Error: a.err, Subscribe: sortedKeys(t.sub), Unsubscribe: sortedKeys(t.unsub)}
	for name := range t.sub {
		t.told[name] = struct{}{}
	}
	for name := range t.unsub {
		delete(t.told, name)
	}
	t.sub, t.unsub = map[string]struct{}{}, map[string]struct{}{} // a map that is cleared stays as large as it was
	t.dirty = false
	return r
}

func (t *typeState) firstDelta() Request {
	r := Request{Subscribe: sortedKeys(t.want)}
	if t.wildcard && len(r.Subscribe) > 0 {
		r.Subscribe = append([]string{Wildcard}, r.Subscribe...)
	}
	for _, name := range r.Subscribe {
		t.told[name] = struct{}{}
	}
	if t.inventory.Len() > 0 {
		r.Initial = t.inventory.versions(t.wanted)
	}
	t.requested = true
	return r
}
