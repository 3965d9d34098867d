package stats

import (
	"reflect"
	"strconv"
	"strings"
	"sync"
)

// sharedBlocks are the structs that several owners count in.
type sharedBlocks struct {
	mu sync.Mutex
	by map[sharedKey]*sharedBlock
}

type sharedKey struct {
	path string
	t    reflect.Type
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
	path := []Label{{Value: prefix}}
	if value != "" {
		path = append(path, Label{label, value})
	}
	return SharedAt[T](st, path...)
}

// SharedAt is Shared for a path of several steps: those with a name are labels, those
// without one parts of the dotted name. No step is the root.
func SharedAt[T any](st *Store, path ...Label) (p *T, release func()) {
	var id strings.Builder
	for _, l := range path {
		id.WriteString(strconv.Quote(l.Name) + strconv.Quote(l.Value))
	}
	key := sharedKey{id.String(), reflect.TypeFor[T]()}
	s := &st.shared
	s.mu.Lock()
	defer s.mu.Unlock()
	b := s.by[key]
	if b == nil {
		fresh := new(T)
		outer := st.Scope("")
		if len(path) > 0 {
			outer = st.Scope(path[0].Value)
		}
		inner := outer
		for _, l := range path[min(1, len(path)):] {
			if l.Name == "" {
				inner = inner.Child(l.Value)
			} else {
				inner = inner.Tag(l.Name, l.Value)
			}
		}
		inner.Bind(fresh)
		b = &sharedBlock{p: fresh, scope: outer}
		if s.by == nil {
			s.by = map[sharedKey]*sharedBlock{}
		}
		s.by[key] = b
	}
	b.users++
	return b.p.(*T), sync.OnceFunc(func() { s.release(key, b) })
}

// SharedUnder is SharedAt for a path that begins at sc. It looks at the names alone: what
// is shared neither lives in sc nor goes with it.
func SharedUnder[T any](sc *Scope, path ...Label) (p *T, release func()) {
	return SharedAt[T](sc.store, append(sc.path(), path...)...)
}

// path returns the steps that lead to sc.
func (sc *Scope) path() []Label {
	if sc.parent == nil {
		return nil
	}
	return append(sc.parent.path(), Label{sc.labelNamed, sc.segment})
}

func (s *sharedBlocks) release(key sharedKey, b *sharedBlock) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if b.users--; b.users == 0 {
		delete(s.by, key)
		b.scope.Close()
	}
}
