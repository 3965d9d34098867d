package idempotency

import (
	"container/list"
	"context"
	"sync"
	"time"
)

// memory is a Store that ends with the process. Beyond its size the oldest responses are
// forgotten before their time; what runs, or may have been carried out, is not.
type memory struct {
	limit   int64 // bytes
	evicted func()

	mu   sync.Mutex
	by   map[Key]*list.Element
	old  list.List // of *held, the oldest first
	size int64
}

type held struct {
	key Key
	rec Record
}

func newMemory(limit int64, evicted func()) *memory {
	return &memory{limit: limit, evicted: evicted, by: map[Key]*list.Element{}}
}

// weight is about how many bytes a record takes.
func (r *Record) weight() int64 {
	n := int64(256)
	if r.Response != nil {
		n += int64(len(r.Response.Body))
		for _, h := range r.Response.Header {
			n += int64(len(h[0])+len(h[1])) + 32
		}
	}
	return n
}

// Claim implements Store.
func (m *memory) Claim(_ context.Context, k Key, r Record) (Record, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if e := m.by[k]; e != nil {
		if h := e.Value.(*held); time.Now().Before(h.rec.Until) {
			return abandoned(h.rec), nil
		}
		m.drop(e)
	}
	if !m.room(r.weight()) {
		return Record{}, errFull
	}
	m.add(k, r)
	r.State = Fresh
	return r, nil
}

// Settle implements Store.
func (m *memory) Settle(_ context.Context, k Key, r Record) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if e := m.by[k]; e != nil {
		m.drop(e)
	}
	if !m.room(r.weight()) && r.Response != nil {
		r.Response = &Response{Code: r.Response.Code, Large: true}
	}
	m.add(k, r)
	return nil
}

// Forget implements Store.
func (m *memory) Forget(_ context.Context, k Key, _ string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if e := m.by[k]; e != nil {
		m.drop(e)
	}
	return nil
}

func (m *memory) add(k Key, r Record) {
	m.by[k] = m.old.PushBack(&held{k, r})
	m.size += r.weight()
}

func (m *memory) drop(e *list.Element) {
	h := m.old.Remove(e).(*held)
	delete(m.by, h.key)
	m.size -= h.rec.weight()
}

// room makes room for n bytes, and reports whether there is some: first by what is over, then
// by the oldest responses.
func (m *memory) room(n int64) bool {
	now := time.Now()
	for e := m.old.Front(); e != nil; {
		next, h := e.Next(), e.Value.(*held)
		switch {
		case !now.Before(h.rec.Until):
			m.drop(e)
		case m.size+n <= m.limit:
			return true
		case h.rec.State == Done:
			m.drop(e)
			m.evicted()
		}
		e = next
	}
	return m.size+n <= m.limit
}
