package ads

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"sync"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
)

// Full method names of the aggregated discovery service.
const (
	methodSotW  = "/envoy.service.discovery.v3.AggregatedDiscoveryService/StreamAggregatedResources"
	methodDelta = "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources"
)

// Config says which control plane to talk to and how. Addresses and Handler are required.
type Config struct {
	// Addresses are tried in turn, one for each attempt: "host:port" or "unix:PATH"
	// (relative to the working directory, or "@name" for an abstract socket).
	Addresses []string
	Variant   Variant
	// Method is the full gRPC method; empty is ADS of the variant. A service for a
	// single type (".../StreamSecrets") speaks the same messages.
	Method string
	// Node is sent as it is; it must not change afterwards.
	Node *corev3.Node
	// NodeOnFirstMessageOnly is set_node_on_first_message_only.
	NodeOnFirstMessageOnly bool
	// DialOptions carry the transport credentials; there is no default.
	DialOptions []grpc.DialOption
	// Dial makes connections (network "tcp" or "unix"); nil is that of net.Dialer.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
	// Authority is the :authority header; empty is the address, or "localhost" for a unix socket.
	Authority string
	// Metadata is initial_metadata of the gRPC service.
	Metadata metadata.MD
	Backoff  Backoff
	// Credentials, if not nil, makes the transport credentials of each attempt, so that
	// files are read again.
	Credentials func() (credentials.TransportCredentials, error)
	// RateLimit bounds what is sent.
	RateLimit RateLimit
	// ConnectTimeout bounds one attempt; 0 is 5 s.
	ConnectTimeout time.Duration
	// MaxMessageBytes bounds one response; 0 is 256 MiB.
	MaxMessageBytes int
	Handler         Handler
	// Logger may be nil: nothing is logged.
	Logger *slog.Logger
}

// Client keeps exactly one stream to a control plane open and its subscriptions
// answered, for as long as Run runs. When the control plane is away, what was
// accepted stays accepted. Its methods may be called from any goroutine, also
// from inside the handler, also before Run.
type Client struct {
	cfg Config
	log *slog.Logger

	mu    sync.Mutex
	queue []Event // from callers, not yet stepped
	stats Stats
	wake  chan struct{}
}

// New checks a configuration; nothing happens before Run.
func New(cfg Config) (*Client, error) {
	switch {
	case len(cfg.Addresses) == 0:
		return nil, errors.New("ads: no control plane address")
	case cfg.Handler == nil:
		return nil, errors.New("ads: no handler")
	}
	if cfg.Method == "" {
		cfg.Method = methodSotW
		if cfg.Variant == Delta {
			cfg.Method = methodDelta
		}
	}
	if cfg.ConnectTimeout <= 0 {
		cfg.ConnectTimeout = 5 * time.Second
	}
	if cfg.MaxMessageBytes <= 0 {
		cfg.MaxMessageBytes = 256 << 20
	}
	if cfg.Credentials == nil { // files may come later; options don't
		conn, err := newConn(cfg.Addresses[0], &cfg)
		if err != nil {
			return nil, fmt.Errorf("ads: control plane %s: %w", cfg.Addresses[0], err)
		}
		conn.Close() // never connected: only its options were checked
	}
	log := cfg.Logger
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &Client{cfg: cfg, log: log, wake: make(chan struct{}, 1)}, nil
}

// Subscribe asks for names of a type, or for all of it without names. Names
// already subscribed are left alone. fetchTimeout is initial_fetch_timeout: when
// it passes unanswered the handler is told; 0 never.
func (c *Client) Subscribe(typeURL string, fetchTimeout time.Duration, names ...string) {
	c.post(SubscribeEvent{TypeURL: typeURL, FetchTimeout: fetchTimeout, Names: names})
}

// Unsubscribe ends the interest in names, or the wildcard subscription without names.
func (c *Client) Unsubscribe(typeURL string, names ...string) {
	c.post(UnsubscribeEvent{TypeURL: typeURL, Names: names})
}

// Refresh asks for subscribed names once more; the answer is delivered even when
// its bytes are the accepted ones. Use it when the handler has lost its copy. A
// SotW server is free not to answer.
func (c *Client) Refresh(typeURL string, names ...string) {
	c.post(RefreshEvent{TypeURL: typeURL, Names: names})
}

// Stats returns a copy of the counters.
func (c *Client) Stats() Stats {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.stats.clone()
}

func (c *Client) post(e Event) {
	c.mu.Lock()
	c.queue = append(c.queue, e)
	c.mu.Unlock()
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

func (c *Client) takeQueue() []Event {
	c.mu.Lock()
	defer c.mu.Unlock()
	q := c.queue
	c.queue = nil
	return q
}

// Run connects, and reconnects, until ctx ends; then it closes the stream, waits
// for its goroutines and returns nil. It may be called once.
func (c *Client) Run(ctx context.Context) error {
	s := &session{c: c, ctx: ctx, m: NewMachine(c.cfg.Variant, c.cfg.NodeOnFirstMessageOnly), timers: map[uint64]*time.Timer{}, bucket: newBucket(c.cfg.RateLimit)}
	defer s.end()
	s.connect()
	for {
		s.pump()
		var events <-chan linkEvent
		if s.link != nil {
			events = s.link.events
		}
		select {
		case <-ctx.Done():
			return nil
		case <-c.wake:
		case <-s.retry():
			s.retryTimer = nil
			s.connect()
		case <-s.tokens:
			s.tokens = nil
		case e := <-events:
			s.onLink(e)
		}
	}
}

// session is the state of one Run: the machine, the link under it and its timers.
type session struct {
	c       *Client
	ctx     context.Context
	m       *Machine
	link    *link
	sending bool // the link has a message that is not on the wire yet

	connects   int
	bucket     *bucket
	tokens     <-chan time.Time // when the rate limit lets the next message go
	limited    uint64
	retryTimer *time.Timer
	timers     map[uint64]*time.Timer
}

func (s *session) end() {
	if s.link != nil {
		s.link.close()
	}
	if s.retryTimer != nil {
		s.retryTimer.Stop()
	}
	for _, t := range s.timers {
		t.Stop()
	}
}

func (s *session) retry() <-chan time.Time {
	if s.retryTimer == nil {
		return nil
	}
	return s.retryTimer.C
}

func (s *session) address() string {
	return s.c.cfg.Addresses[(s.connects-1)%len(s.c.cfg.Addresses)]
}

func (s *session) connect() {
	s.connects++
	s.sending = false
	s.link = openLink(s.ctx, &s.c.cfg, s.address())
}

// pump steps the events of callers, then hands the link the next message due, if
// it can take one. Waiting for all callers first lets their names travel together.
func (s *session) pump() {
	for q := s.c.takeQueue(); len(q) > 0; q = s.c.takeQueue() {
		for _, e := range q {
			s.step(e)
		}
	}
	s.send()
	st := s.m.Stats()
	st.RateLimited, st.Pending = s.limited, s.m.Due()
	s.c.mu.Lock()
	for url, t := range st.Types { // the machine has no clock
		old := s.c.stats.Types[url]
		t.UpdateTime = old.UpdateTime
		if t.UpdateSuccess != old.UpdateSuccess {
			t.UpdateTime = time.Now()
		}
		st.Types[url] = t
	}
	s.c.stats = st
	s.c.mu.Unlock()
}

// send hands the link the next message due, if both it and the rate limit allow.
func (s *session) send() {
	if s.link == nil || s.sending || s.tokens != nil || s.m.Due() == 0 {
		return
	}
	if wait := s.bucket.take(time.Now()); wait > 0 {
		s.limited++
		s.tokens = time.After(wait)
		return
	}
	req, _ := s.m.Next()
	s.sending = true
	if req.Error != "" {
		s.c.log.Warn("xds: resources refused", "type", ShortType(req.TypeURL), "detail", req.Error)
	}
	s.link.out <- req.message(s.c.cfg.Variant, s.c.cfg.Node)
}

func (s *session) onLink(e linkEvent) {
	switch {
	case e.err != nil:
		s.link.close()
		s.link = nil
		s.c.log.Warn("xds: control plane connection closed", "address", s.address(), "error", e.err)
		s.step(ClosedEvent{})
	case e.opened:
		s.c.log.Info("xds: control plane connected", "address", s.address(), "variant", s.c.cfg.Variant.String())
		s.step(OpenedEvent{})
	case e.sent:
		s.sending = false
	default:
		s.step(ReceivedEvent{e.response})
	}
}

// step runs one event through the machine and does what follows from it.
func (s *session) step(e Event) {
	for _, effect := range s.m.Step(e) {
		switch f := effect.(type) {
		case Deliver:
			s.step(AppliedEvent{TypeURL: f.Update.TypeURL, Refused: s.c.cfg.Handler.Apply(f.Update)})
		case Reconnect:
			s.retryTimer = time.NewTimer(s.c.cfg.Backoff.Delay(f.Attempt, rand.Float64()))
		case StartTimer:
			s.timers[f.ID] = time.AfterFunc(f.After, func() { s.c.post(TimerEvent{f.ID}) })
		case StopTimer:
			s.timers[f.ID].Stop()
			s.timers = without(s.timers, f.ID)
		case TimedOut:
			s.c.log.Warn("xds: no answer within initial_fetch_timeout", "type", ShortType(f.TypeURL), "name", f.Name)
			s.c.cfg.Handler.FetchTimedOut(f.TypeURL, f.Name)
		}
	}
	if t, ok := e.(TimerEvent); ok {
		s.timers = without(s.timers, t.ID)
	}
}

func closedBy(err error) error { return fmt.Errorf("ads: stream: %w", err) }
