// Package xdstest is a management server for tests: it speaks ADS and the
// services of single types, state of the world and delta, over real gRPC, records what clients say, and can be slow, die
// and come back at the same address. It is written apart from both xds/ads and
// go-control-plane, so that a client tested against it is tested against the
// protocol. Not here: anything for production (see xds/control).
package xdstest

import (
	"context"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/mecha-mesh/mecha/xds/ads"
)

// Server is one management server. Its methods may be called from any goroutine.
type Server struct {
	tb      testing.TB
	network string
	address string

	mu       sync.Mutex
	grpc     *grpc.Server // nil while killed
	served   chan struct{}
	plane    Plane
	held     int
	streams  map[*Session]context.CancelFunc
	opened   int
	most     int
	requests []Request
	changed  chan struct{} // closed and replaced on every change, to wake waiters
}

// New starts a server on a free TCP port of 127.0.0.1; it ends with the test.
func New(tb testing.TB) *Server { return Listen(tb, "127.0.0.1:0") }

// Listen starts a server at an address as ads.Config takes it.
func Listen(tb testing.TB, address string) *Server {
	tb.Helper()
	s := &Server{
		tb: tb, streams: map[*Session]context.CancelFunc{}, changed: make(chan struct{}),
	}
	s.network, s.address = ads.SplitAddress(address)
	s.Restart()
	tb.Cleanup(s.Kill)
	return s
}

// Address is where clients connect, as ads.Config takes it.
func (s *Server) Address() string {
	if s.network == "unix" {
		return "unix:" + s.address
	}
	return s.address
}

// Kill ends all streams at once and closes the port, as kill -9 does. Resources
// are kept for a Restart.
func (s *Server) Kill() {
	s.mu.Lock()
	g, served := s.grpc, s.served
	s.grpc = nil
	s.mu.Unlock()
	if g != nil {
		g.Stop()
		<-served
	}
}

// Restart starts a killed server at the same address, with new versions and no
// memory of its clients.
func (s *Server) Restart() {
	s.tb.Helper()
	l, err := net.Listen(s.network, s.address)
	if err != nil {
		s.tb.Fatalf("xdstest: %v", err)
	}
	if s.network == "tcp" {
		s.address = l.Addr().String()
	}
	g := grpc.NewServer(grpc.UnknownServiceHandler(service{s: s}.any))
	s.mu.Lock()
	s.plane.Restart()
	s.grpc, s.served = g, make(chan struct{})
	served := s.served
	s.mu.Unlock()
	go func() {
		defer close(served)
		_ = g.Serve(l) // ends with Stop
	}()
}

// DropStreams ends every open stream; clients may come back at once.
func (s *Server) DropStreams() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, drop := range s.streams {
		drop()
	}
}

// Hold stops all responses until the returned function is called.
func (s *Server) Hold() (release func()) {
	s.mu.Lock()
	s.held++
	s.mu.Unlock()
	return func() {
		s.mu.Lock()
		s.held--
		s.wakeLocked()
		s.mu.Unlock()
	}
}

// Set adds or replaces resources and pushes them.
func (s *Server) Set(resources ...proto.Message) {
	s.tb.Helper()
	for _, r := range resources {
		body, err := anypb.New(r)
		if err != nil {
			s.tb.Fatalf("xdstest: %v", err)
		}
		name, err := ads.NameOf(body)
		if err != nil {
			s.tb.Fatalf("xdstest: %T: %v", r, err)
		}
		s.SetRaw(name, body)
	}
}

// SetRaw adds a resource with any body, however broken.
func (s *Server) SetRaw(name string, body *anypb.Any, aliases ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.plane.Set(name, body, aliases...)
	s.wakeLocked()
}

// Remove takes resources away.
func (s *Server) Remove(typeURL string, names ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, name := range names {
		s.plane.Remove(typeURL, name)
	}
	s.wakeLocked()
}

// Requests returns all messages so far, in order of arrival.
func (s *Server) Requests() []Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.requests)
}

// Streams returns how many streams were opened in all, and the most at one time.
func (s *Server) Streams() (opened, most int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.opened, s.most
}

// Open returns how many streams are open.
func (s *Server) Open() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.streams)
}

// Await returns the first message, past ones included, for which match is true;
// it fails the test when none comes within ten seconds.
func (s *Server) Await(what string, match func(Request) bool) Request {
	s.tb.Helper()
	deadline := time.After(10 * time.Second)
	for seen := 0; ; {
		s.mu.Lock()
		requests, changed := s.requests, s.changed
		s.mu.Unlock()
		for ; seen < len(requests); seen++ {
			if match(requests[seen]) {
				return requests[seen]
			}
		}
		select {
		case <-changed:
		case <-deadline:
			s.tb.Fatalf("xdstest: waited 10 s for %s; saw %+v", what, requests)
		}
	}
}

func (s *Server) wakeLocked() {
	close(s.changed)
	s.changed = make(chan struct{})
}
