// Package dnscache keeps the addresses of names that requests ask for, for dynamic
// forward proxies: a name is looked up when it is asked for first, kept fresh while it
// is used, and forgotten when nobody asks for it any more. The table is bounded, and so
// is how many wait for a first answer.
//
// How names are looked up is not here: see package dns.
package dnscache

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/mecha-mesh/mecha/proxy/stats"
)

// Lookup returns the addresses of a name, the ones to be preferred first, and how long
// they are good for; 0 is unknown.
type Lookup func(ctx context.Context, name string) ([]netip.Addr, time.Duration, error)

// Spec configures a cache (DnsCacheConfig): plain, validated, immutable.
type Spec struct {
	Name         string
	Refresh      time.Duration // dns_refresh_rate, 60 s unless set: while there is no answer
	MinRefresh   time.Duration // dns_min_refresh_rate, 5 s unless set: the shortest TTL
	HostTTL      time.Duration // host_ttl, 5 min unless set: how long a name is kept unused
	QueryTimeout time.Duration // dns_query_timeout, 5 s unless set; 0 is none
	MaxHosts     int           // max_hosts, 1024 unless set
	MaxPending   int           // dns_cache_circuit_breaker.max_pending_requests, 1024 unless set
	// FailureBase and FailureMax bound the wait after a failed lookup
	// (dns_failure_refresh_rate); 0 is Refresh.
	FailureBase, FailureMax time.Duration
	// ForgetFailed looks a name that could not be resolved up again when it is asked for,
	// not on its own (disable_dns_refresh_on_failure).
	ForgetFailed bool
	Preresolve   []Key
	// Reject are addresses that no answer may have (resolved_address_filter); Invert are
	// all others.
	Reject []netip.Prefix
	Invert bool
}

// Equal reports whether two specs say the same.
func (s *Spec) Equal(o *Spec) bool {
	a, b := *s, *o
	same := slices.Equal(a.Preresolve, b.Preresolve) && slices.Equal(a.Reject, b.Reject) && a.Invert == b.Invert
	return same && a.Name == b.Name && a.Refresh == b.Refresh && a.MinRefresh == b.MinRefresh && a.HostTTL == b.HostTTL &&
		a.QueryTimeout == b.QueryTimeout && a.MaxHosts == b.MaxHosts && a.MaxPending == b.MaxPending &&
		a.FailureBase == b.FailureBase && a.FailureMax == b.FailureMax && a.ForgetFailed == b.ForgetFailed
}

// Key is a name, or an address, in lower case, and a port.
type Key struct {
	Host string
	Port uint16
}

// counters are dns_cache.<name>.*.
type counters struct {
	Attempt     stats.Counter `stat:"dns_query_attempt" help:"Lookups."`
	Success     stats.Counter `stat:"dns_query_success" help:"Lookups that were answered."`
	Failure     stats.Counter `stat:"dns_query_failure" help:"Lookups that failed."`
	Timeout     stats.Counter `stat:"dns_query_timeout" help:"Lookups that took longer than dns_query_timeout."`
	Changed     stats.Counter `stat:"host_address_changed" help:"Answers with other addresses than before."`
	Added       stats.Counter `stat:"host_added" help:"Names added."`
	Removed     stats.Counter `stat:"host_removed" help:"Names forgotten."`
	Overflow    stats.Counter `stat:"host_overflow" help:"Requests refused because the table is full."`
	PendingOver stats.Counter `stat:"dns_rq_pending_overflow" help:"Requests refused because too many wait."`
	Hosts       stats.Gauge   `stat:"num_hosts" help:"Names in the table."`
}

// The errors of Resolve.
var (
	ErrFull    = errors.New("dnscache: the table is full")
	ErrPending = errors.New("dnscache: too many requests wait for an answer")
)

// Failure is a name that has no address.
type Failure struct{ Err error }

func (f *Failure) Error() string { return fmt.Sprintf("dnscache: %v", f.Err) }

// Unwrap returns the cause.
func (f *Failure) Unwrap() error { return f.Err }

// errNoAddress is the cause where a name is known to have none.
var errNoAddress = errors.New("the name has no address")

// Cache is safe for concurrent use.
type Cache struct {
	spec   *Spec
	lookup Lookup
	s      counters
	scope  *stats.Scope
	start  time.Time
	ctx    context.Context
	cancel context.CancelFunc

	mu      sync.RWMutex
	hosts   map[Key]*entry
	pending int
	closed  bool
	watch   map[*Watch]struct{}
}

// Watch is told what is forgotten.
type Watch struct{ gone func(Key) }

// New returns a cache that counts in st, which may be nil.
func New(spec *Spec, lookup Lookup, st *stats.Store) *Cache {
	c := &Cache{spec: spec, lookup: lookup, start: time.Now(), hosts: map[Key]*entry{}, watch: map[*Watch]struct{}{}}
	c.ctx, c.cancel = context.WithCancel(context.Background())
	if st != nil {
		c.scope = st.Scope("dns_cache").Child(spec.Name)
		c.scope.Bind(&c.s)
	}
	for _, k := range spec.Preresolve {
		c.mu.Lock()
		_, _ = c.entry(k) // there is room, or it is looked up when it is asked for
		c.mu.Unlock()
	}
	return c
}

// Spec returns the configuration.
func (c *Cache) Spec() *Spec { return c.spec }

// Get returns the addresses of a name that is in the table, lent; nil if there are none,
// or it is not known yet. It notes that the name is in use.
func (c *Cache) Get(k Key) []netip.Addr {
	c.mu.RLock()
	e := c.hosts[k]
	c.mu.RUnlock()
	if e == nil {
		return nil
	}
	e.used.Store(int64(time.Since(c.start)))
	if a := e.addrs.Load(); a != nil {
		return *a
	}
	return nil
}

// Resolve returns the addresses of a name, waiting for the first answer if it must. Its
// errors are ErrFull, ErrPending, a *Failure and the cause of ctx.
func (c *Cache) Resolve(ctx context.Context, k Key) ([]netip.Addr, error) {
	if a := c.Get(k); len(a) > 0 {
		return a, nil
	}
	c.mu.Lock()
	e, err := c.entry(k)
	if err != nil {
		c.mu.Unlock()
		return nil, err
	}
	select {
	case <-e.first:
		c.mu.Unlock()
		return e.result()
	default:
	}
	if c.pending >= c.spec.MaxPending {
		c.s.PendingOver.Inc()
		c.mu.Unlock()
		return nil, ErrPending
	}
	c.pending++
	c.mu.Unlock()
	defer func() {
		c.mu.Lock()
		c.pending--
		c.mu.Unlock()
	}()
	select {
	case <-e.first:
		return e.result()
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// OnRemove calls gone whenever a name is forgotten, until stop is called.
func (c *Cache) OnRemove(gone func(Key)) (stop func()) {
	w := &Watch{gone}
	c.mu.Lock()
	c.watch[w] = struct{}{}
	c.mu.Unlock()
	return func() {
		c.mu.Lock()
		delete(c.watch, w)
		c.mu.Unlock()
	}
}

// Close forgets everything and ends the lookups, without waiting for them.
func (c *Cache) Close() {
	c.mu.Lock()
	c.closed = true
	for _, e := range c.hosts {
		e.again.Stop()
	}
	c.hosts = map[Key]*entry{}
	c.mu.Unlock()
	c.cancel()
	if c.scope != nil {
		c.scope.Close()
	}
}
