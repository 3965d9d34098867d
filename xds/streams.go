package xds

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"google.golang.org/protobuf/proto"

	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/xds/ads"
)

// streams are the connections to control planes that api_config_source names: one
// stream for each source and type, for as long as anybody subscribes over it. It is
// safe for concurrent use, and calls nobody back while it holds its lock.
type streams struct {
	bootstrap *bootstrapv3.Bootstrap
	handler   func(typeURL, api string) ads.Handler
	log       *slog.Logger

	mu      sync.Mutex
	open    map[streamKey]*stream
	running bool
}

type streamKey struct{ typeURL, api string }

type stream struct {
	*ads.Client
	names  map[string]bool // subscribed; Wildcard stands for all
	cancel context.CancelFunc
}

// config reads a serialised ApiConfigSource for a type.
func (s *streams) config(typeURL, api string) (ads.Config, error) {
	var a corev3.ApiConfigSource
	if err := proto.Unmarshal([]byte(api), &a); err != nil {
		return ads.Config{}, err
	}
	cfg, err := clientConfig(s.bootstrap, &a)
	if err != nil {
		return cfg, err
	}
	if cfg.Method = ads.Method(typeURL, cfg.Variant); cfg.Method == "" {
		return cfg, filter.At("api_type", fmt.Errorf("%s cannot be had over %s", ads.ShortType(typeURL), a.ApiType))
	}
	cfg.Handler, cfg.Logger = s.handler(typeURL, api), s.log
	return cfg, nil
}

// check says what is wrong with a source, nil if it can be used.
func (s *streams) check(typeURL, api string) error {
	if api == "" {
		return nil
	}
	if s.bootstrap == nil {
		return errors.New("no api_config_source can be used here")
	}
	cfg, err := s.config(typeURL, api)
	if err != nil {
		return filter.At("api_config_source", err)
	}
	_, err = ads.New(cfg)
	return filter.At("api_config_source", err)
}

// to returns the stream for a type from a source, a new one for the first who asks. The
// lock is held.
func (s *streams) to(typeURL, api string) *stream {
	key := streamKey{typeURL, api}
	if st := s.open[key]; st != nil {
		return st
	}
	cfg, err := s.config(typeURL, api)
	if err != nil { // check was asked before
		s.log.Error("xds: a source cannot be used", "type", ads.ShortType(typeURL), "error", err)
		return nil
	}
	client, err := ads.New(cfg)
	if err != nil {
		s.log.Error("xds: a source cannot be used", "type", ads.ShortType(typeURL), "error", err)
		return nil
	}
	st := &stream{Client: client, names: map[string]bool{}}
	if s.open == nil {
		s.open = map[streamKey]*stream{}
	}
	s.open[key] = st
	if s.running {
		s.start(st)
	}
	return st
}

func (s *streams) start(st *stream) {
	ctx, cancel := context.WithCancel(context.Background())
	st.cancel = cancel
	go func() { _ = st.Run(ctx) }() // it ends with ctx, and says nothing then
}

// each calls f with every client.
func (s *streams) each(f func(typeURL string, c *ads.Client)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for key, st := range s.open {
		f(key.typeURL, st.Client)
	}
}

// run starts what was asked for before the process was complete.
func (s *streams) run() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.running = true
	for _, st := range s.open {
		s.start(st)
	}
}

// stop ends all streams, without waiting for them.
func (s *streams) stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.running = false
	for key, st := range s.open {
		if st.cancel != nil {
			st.cancel()
		}
		delete(s.open, key)
	}
}

// subscriber is a stream as the manager subscribes over it: the last unsubscription
// closes it.
type subscriber struct {
	s   *streams
	key streamKey
}

// Subscribe implements Subscriber.
func (u subscriber) Subscribe(typeURL string, timeout time.Duration, names ...string) {
	u.s.mu.Lock()
	defer u.s.mu.Unlock()
	st := u.s.to(u.key.typeURL, u.key.api)
	if st == nil {
		return
	}
	if len(names) == 0 {
		st.names[ads.Wildcard] = true
	}
	for _, n := range names {
		st.names[n] = true
	}
	st.Client.Subscribe(typeURL, timeout, names...)
}

// Unsubscribe implements Subscriber.
func (u subscriber) Unsubscribe(typeURL string, names ...string) {
	u.s.mu.Lock()
	defer u.s.mu.Unlock()
	st := u.s.open[u.key]
	if st == nil {
		return
	}
	if len(names) == 0 {
		delete(st.names, ads.Wildcard)
	}
	for _, n := range names {
		delete(st.names, n)
	}
	if len(st.names) > 0 {
		st.Client.Unsubscribe(typeURL, names...)
		return
	}
	delete(u.s.open, u.key)
	if st.cancel != nil {
		st.cancel()
	}
}

// subscriber returns who gives resources of a type from a source; nil where there is
// nobody. The lock is held.
func (m *Manager) subscriber(typeURL, api string) Subscriber {
	if api == "" {
		if m.ads == nil {
			return nil
		}
		return m.ads
	}
	return subscriber{&m.streams, streamKey{typeURL, api}}
}
