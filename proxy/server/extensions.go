package server

import (
	"slices"
	"time"

	"github.com/mecha-mesh/mecha/proxy/filter"
)

// extension is a configuration that comes over ECDS, for all who use it.
type extension struct {
	filter.ExtensionSource
	answered bool // it, or the end of the wait for it, has come
}

// extension returns the source of a key, an empty one for a new key.
func (s *Server) extension(key filter.ExtensionKey) *filter.ExtensionSource {
	s.mu.Lock()
	defer s.mu.Unlock()
	return &s.extensionLocked(key).ExtensionSource
}

func (s *Server) extensionLocked(key filter.ExtensionKey) *extension {
	x := s.extensions[key]
	if x == nil {
		x = &extension{}
		s.extensions[key] = x
	}
	return x
}

// SetExtension implements xds.Engine.
func (s *Server) SetExtension(key filter.ExtensionKey, factory any, wait bool) error {
	s.mu.Lock()
	x := s.extensions[key]
	s.mu.Unlock()
	if x == nil { // it was on its way when its last listener went
		return nil
	}
	if err := x.Set(factory); err != nil {
		return err
	}
	s.mu.Lock()
	var ready []*waiting
	if x.answered = !wait; !wait {
		ready = s.came(key)
	}
	s.mu.Unlock()
	s.useAll(ready)
	return nil
}

// letGoExtensions drops what no listener uses any more, once its connections are gone.
// The lock is held.
func (s *Server) letGoExtensions(needs Needs) {
	for _, key := range slices.Concat(needs.Extensions, needs.Later) {
		x := s.extensions[key]
		if x == nil || s.extensionInUse(key) {
			continue
		}
		x.answered = false
		time.AfterFunc(s.drainTime, func() {
			s.mu.Lock()
			defer s.mu.Unlock()
			if s.extensions[key] == x && !s.extensionInUse(key) {
				delete(s.extensions, key)
			}
		})
	}
}

func (s *Server) extensionInUse(key filter.ExtensionKey) bool {
	return s.needed(func(n Needs) bool { return slices.Contains(n.Extensions, key) || slices.Contains(n.Later, key) })
}
