package wasm

import (
	"sync"

	"github.com/mecha-mesh/mecha/proxy/stats"
)

// Bounds of what plugins share.
const (
	maxShared  = 32 << 20 // bytes of keys and values under a vm_id
	maxQueues  = 1024     // of a process
	maxQueued  = 8 << 20  // bytes in a queue
	maxMetrics = 8192     // of a process
)

// broker is what the plugins of a process have in common: data under their vm_id, queues,
// and metrics. It is safe for concurrent use.
type broker struct {
	mu      sync.Mutex
	data    map[string]*shelf // by vm_id
	queues  []*queue          // by token, from 1 on
	byName  map[queueName]uint32
	metrics []metric // by number, from 1 on
	metered map[string]uint32
	scope   *stats.Scope
}

type queueName struct{ vmID, name string }

// shelf is the shared data under a vm_id.
type shelf struct {
	values map[string]cell
	bytes  int
	cas    uint32 // the newest one
}

type cell struct {
	value string
	cas   uint32
}

// queue is a shared queue: messages go to who has registered it.
type queue struct {
	messages []string
	bytes    int
	owner    *VM
	key      string // of the root
}

func newBroker(st *stats.Store) *broker {
	b := &broker{data: map[string]*shelf{}, byName: map[queueName]uint32{}, metered: map[string]uint32{}}
	if st != nil {
		b.scope = st.Scope("wasmcustom")
	}
	return b
}

func (in *Instance) getSharedData(a []uint64) Status {
	key, ok := in.view(a[0], a[1])
	if !ok {
		return StatusInvalidMemoryAccess
	}
	b := in.vm.broker
	b.mu.Lock()
	s := b.data[in.vm.config.ID]
	var c cell
	found := false
	if s != nil {
		c, found = s.values[string(key)]
	}
	b.mu.Unlock()
	if !found {
		return StatusNotFound
	}
	if st := in.give(c.value, a[2], a[3]); st != StatusOK {
		return st
	}
	return in.put32(a[4], c.cas)
}

// setSharedData changes a value if it is still the one with that cas; 0 is any.
func (in *Instance) setSharedData(a []uint64) Status {
	key, ok1 := in.view(a[0], a[1])
	value, ok2 := in.view(a[2], a[3])
	if !ok1 || !ok2 {
		return StatusInvalidMemoryAccess
	}
	cas := uint32(a[4])
	b := in.vm.broker
	b.mu.Lock()
	defer b.mu.Unlock()
	s := b.data[in.vm.config.ID]
	if s == nil {
		s = &shelf{values: map[string]cell{}}
		b.data[in.vm.config.ID] = s
	}
	old, found := s.values[string(key)]
	if cas != 0 && found && old.cas != cas {
		return StatusCASMismatch
	}
	size := s.bytes + len(value) - len(old.value)
	if !found {
		size += len(key)
	}
	if size > maxShared {
		return StatusInternalFailure
	}
	s.bytes = size
	if s.cas++; s.cas == 0 {
		s.cas = 1
	}
	s.values[string(key)] = cell{string(value), s.cas}
	return StatusOK
}

func (in *Instance) registerQueue(a []uint64) Status {
	name, ok := in.view(a[0], a[1])
	c := in.effective
	if !ok {
		return StatusInvalidMemoryAccess
	}
	if c == nil || c.plugin == nil {
		return StatusBadArgument
	}
	b := in.vm.broker
	b.mu.Lock()
	defer b.mu.Unlock()
	n := queueName{in.vm.config.ID, string(name)}
	token := b.byName[n]
	if token == 0 {
		if len(b.queues) >= maxQueues {
			return StatusInternalFailure
		}
		b.queues = append(b.queues, &queue{})
		token = uint32(len(b.queues))
		b.byName[n] = token
	}
	q := b.queues[token-1]
	q.owner, q.key = in.vm, c.plugin.key
	return in.put32(a[2], token)
}

func (in *Instance) resolveQueue(a []uint64) Status {
	vmID, ok1 := in.view(a[0], a[1])
	name, ok2 := in.view(a[2], a[3])
	if !ok1 || !ok2 {
		return StatusInvalidMemoryAccess
	}
	b := in.vm.broker
	b.mu.Lock()
	token := b.byName[queueName{string(vmID), string(name)}]
	b.mu.Unlock()
	if token == 0 {
		return StatusNotFound
	}
	return in.put32(a[4], token)
}

func (b *broker) queue(token uint64) *queue {
	if i := uint32(token); i > 0 && int(i) <= len(b.queues) {
		return b.queues[i-1]
	}
	return nil
}

func (in *Instance) dequeue(a []uint64) Status {
	b := in.vm.broker
	b.mu.Lock()
	q := b.queue(a[0])
	if q == nil || len(q.messages) == 0 {
		b.mu.Unlock()
		if q == nil {
			return StatusNotFound
		}
		return StatusEmpty
	}
	m := q.messages[0]
	q.messages = q.messages[1:]
	q.bytes -= len(m) + 64
	b.mu.Unlock()
	return in.give(m, a[1], a[2])
}

func (in *Instance) enqueue(a []uint64) Status {
	m, ok := in.view(a[1], a[2])
	if !ok {
		return StatusInvalidMemoryAccess
	}
	b := in.vm.broker
	b.mu.Lock()
	q := b.queue(a[0])
	if q == nil {
		b.mu.Unlock()
		return StatusNotFound
	}
	if q.bytes+len(m)+64 > maxQueued {
		b.mu.Unlock()
		if p := in.effectivePlugin(); p != nil {
			p.counters.Denied.Inc()
		}
		return StatusInternalFailure
	}
	q.messages = append(q.messages, string(m))
	q.bytes += len(m) + 64
	owner, key := q.owner, q.key
	b.mu.Unlock()
	go owner.ready(key, uint32(a[0])) // the queue's guest may be the one that runs
	return StatusOK
}

// ready tells the guest that has registered a queue that there is something in it.
func (vm *VM) ready(key string, token uint32) {
	in, err := vm.take()
	if err != nil {
		return // the messages stay
	}
	defer in.mu.Unlock()
	if root := in.roots[key]; root != nil {
		_, _, _ = root.invoke(onQueueReady, uint64(token)) // a failure is noted
	}
}
