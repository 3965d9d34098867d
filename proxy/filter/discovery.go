package filter

import (
	"slices"
	"sync"
)

// ExtensionKind is what kind of filter an extension configuration is for, under the
// name that statistics give it.
type ExtensionKind string

// The kinds.
const (
	HTTPExtension     ExtensionKind = "http_filter"
	NetworkExtension  ExtensionKind = "network_filter"
	ListenerExtension ExtensionKind = "tcp_listener_filter"
)

// ExtensionKey names an extension whose configuration comes over ECDS.
type ExtensionKey struct {
	Kind ExtensionKind
	Name string
}

// Extension is a reference to a configuration that comes over ECDS
// (ExtensionConfigSource).
type Extension struct {
	ExtensionKey
	From  ConfigSource
	Types []string // type names that are allowed
	// NoWarming lets a listener be used before the configuration has come
	// (apply_default_config_without_warming).
	NoWarming bool
}

// ExtensionSource is the configuration of a discovered filter as it is now: an
// HTTPFactory, a NetworkFactory or a ListenerFactory. It is replaced while it is in use. The zero value has
// none. It is safe for concurrent use.
type ExtensionSource struct {
	mu       sync.Mutex
	current  any
	watchers []*func() error
}

// Current returns the factory, nil before one has come.
func (s *ExtensionSource) Current() any {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.current
}

// Set replaces the factory, nil for none, and tells all who watch. If one of them cannot
// use it, the error is returned, and they are told again of the one before.
func (s *ExtensionSource) Set(factory any) error {
	s.mu.Lock()
	before := s.current
	s.current = factory
	watchers := slices.Clone(s.watchers)
	s.mu.Unlock()
	for i, w := range watchers {
		err := (*w)()
		if err == nil {
			continue
		}
		s.mu.Lock()
		s.current = before
		s.mu.Unlock()
		for _, w := range watchers[:i] {
			_ = (*w)() // it worked with this one until now
		}
		return err
	}
	return nil
}

// Watch calls f whenever the factory has been replaced, until stop is called.
func (s *ExtensionSource) Watch(f func() error) (stop func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	w := &f
	s.watchers = append(s.watchers, w)
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.watchers = slices.DeleteFunc(s.watchers, func(o *func() error) bool { return o == w })
	}
}
