package stats

import (
	"reflect"
	"sync"
)

// sharedBlocks are the structs that several owners count in.
type sharedBlocks struct {
	mu sync.Mutex
	by map[sharedKey]*sharedBlock
}

type sharedKey struct {
	prefix, label, value string
	t                    reflect.Type
}

type sharedBlock struct {
	p     any
	scope *Scope
	users int
}

// Shared returns the struct of type T that is bound under prefix and, if value is not
// "", under the value of the label, such as "tcp" and "envoy_tcp_prefix"; the first
// caller makes and binds it. All callers with the same arguments count in the same
// struct, so that a counter goes on when its owner is replaced while it is still in
// use. release gives it up, once; the metrics go with the last owner.
func Shared[T any](st *Store, prefix, label, value string) (p *T, release func()) {
	key := sharedKey{prefix, label, value, reflect.TypeFor[T]()}
	s := &st.shared
	s.mu.Lock()
	defer s.mu.Unlock()
	b := s.by[key]
	if b == nil {
		fresh := new(T)
		sc := st.Scope(prefix)
		inner := sc
		if value != "" {
			inner = sc.Tag(label, value)
		}
		inner.Bind(fresh)
		b = &sharedBlock{p: fresh, scope: sc}
		if s.by == nil {
			s.by = map[sharedKey]*sharedBlock{}
		}
		s.by[key] = b
	}
	b.users++
	return b.p.(*T), sync.OnceFunc(func() { s.release(key, b) })
}

func (s *sharedBlocks) release(key sharedKey, b *sharedBlock) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if b.users--; b.users == 0 {
		delete(s.by, key)
		b.scope.Close()
	}
}
