package jwtauthn

import (
	"container/list"
	"sync"
)

// cache remembers tokens whose signature is good, the ones used last. It knows the keys
// that they were verified with: those of another set have to be verified anew.
type cache struct {
	most, longest int

	mu  sync.Mutex
	by  map[string]*list.Element
	age list.List // of *cached, the one used last first
}

type cached struct {
	token *token
	keys  *keySet
}

// newCache makes a cache of so many tokens; nil for none.
func newCache(most, longest int) *cache {
	if most == 0 {
		return nil
	}
	return &cache{most: most, longest: longest, by: map[string]*list.Element{}}
}

// find returns a token that is good by the keys of now; nil if it is not known.
func (c *cache) find(raw string, keys *keySet) *token {
	if c == nil || keys == nil {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	e := c.by[raw]
	if e == nil {
		return nil
	}
	one := e.Value.(*cached)
	if one.keys != keys {
		c.age.Remove(e)
		delete(c.by, raw)
		return nil
	}
	c.age.MoveToFront(e)
	return one.token
}

// add remembers a token.
func (c *cache) add(t *token, keys *keySet) {
	if c == nil || len(t.raw) > c.longest {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.by[t.raw] != nil {
		return
	}
	if len(c.by) >= c.most {
		old := c.age.Back()
		delete(c.by, old.Value.(*cached).token.raw)
		c.age.Remove(old)
	}
	c.by[t.raw] = c.age.PushFront(&cached{t, keys})
}
