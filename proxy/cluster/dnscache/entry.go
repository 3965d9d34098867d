package dnscache

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"sync/atomic"
	"time"

	"github.com/mecha-mesh/mecha/proxy/backoff"
)

// entry is a name in the table.
type entry struct {
	c     *Cache
	key   Key
	addrs atomic.Pointer[[]netip.Addr] // nil before the first good answer
	used  atomic.Int64                 // nanoseconds from the cache's start to the last use
	first chan struct{}                // closed after the first lookup
	again *time.Timer

	// Of the goroutine that looks up; read after first is closed.
	err      atomic.Pointer[Failure]
	failures int
}

// entry returns the entry of a name, adding it if there is room. The lock is held.
func (c *Cache) entry(k Key) (*entry, error) {
	if e := c.hosts[k]; e != nil {
		return e, nil
	}
	if c.closed || len(c.hosts) >= c.spec.MaxHosts {
		c.s.Overflow.Inc()
		return nil, ErrFull
	}
	e := &entry{c: c, key: k, first: make(chan struct{})}
	e.used.Store(int64(time.Since(c.start)))
	e.again = time.AfterFunc(0, e.refresh)
	c.hosts[k] = e
	c.s.Added.Inc()
	c.s.Hosts.Set(int64(len(c.hosts)))
	return e, nil
}

// result is what is known after the first lookup.
func (e *entry) result() ([]netip.Addr, error) {
	if a := e.addrs.Load(); a != nil {
		return *a, nil
	}
	if f := e.err.Load(); f != nil {
		return nil, f
	}
	return nil, &Failure{errNoAddress}
}

// refresh looks the name up, or forgets it if nobody has asked for it for long.
func (e *entry) refresh() {
	c := e.c
	c.mu.Lock()
	if c.closed || c.hosts[e.key] != e {
		c.mu.Unlock()
		return
	}
	if idle := time.Since(c.start) - time.Duration(e.used.Load()); idle >= c.spec.HostTTL && e.known() {
		c.drop(e)
		return
	}
	c.mu.Unlock()
	pause := e.look()
	c.mu.Lock()
	if !e.known() {
		close(e.first)
	}
	switch {
	case c.closed || c.hosts[e.key] != e:
		c.mu.Unlock()
	case e.failures > 0 && c.spec.ForgetFailed && e.addrs.Load() == nil:
		c.drop(e)
	default:
		e.again.Reset(pause)
		c.mu.Unlock()
	}
}

// known reports whether the first lookup is over.
func (e *entry) known() bool {
	select {
	case <-e.first:
		return true
	default:
		return false
	}
}

// drop forgets an entry. It is called with the lock held, and releases it.
func (c *Cache) drop(e *entry) {
	delete(c.hosts, e.key)
	c.s.Removed.Inc()
	c.s.Hosts.Set(int64(len(c.hosts)))
	tell := make([]*Watch, 0, len(c.watch))
	for w := range c.watch {
		tell = append(tell, w)
	}
	c.mu.Unlock()
	for _, w := range tell {
		w.gone(e.key)
	}
}

// look makes one lookup and returns when the next one is due.
func (e *entry) look() time.Duration {
	c, s := e.c, e.c.spec
	ctx, cancel := c.ctx, context.CancelFunc(func() {})
	if s.QueryTimeout > 0 {
		ctx, cancel = context.WithTimeout(ctx, s.QueryTimeout)
	}
	c.s.Attempt.Inc()
	addrs, ttl, err := c.lookup(ctx, e.key.Host)
	timedOut := errors.Is(ctx.Err(), context.DeadlineExceeded)
	cancel()
	if err == nil {
		addrs = s.allowed(addrs)
		if len(addrs) == 0 {
			err = errNoAddress
		}
	}
	if err != nil {
		c.s.Failure.Inc()
		if timedOut {
			c.s.Timeout.Inc()
		}
		e.err.Store(&Failure{err})
		e.failures++
		return s.afterFailure(e.failures)
	}
	c.s.Success.Inc()
	e.failures = 0
	if old := e.addrs.Load(); old == nil || !sameSet(*old, addrs) {
		c.s.Changed.Inc()
		e.addrs.Store(&addrs)
	}
	if ttl <= 0 {
		return max(s.Refresh, s.MinRefresh)
	}
	return max(ttl, s.MinRefresh)
}

// allowed leaves out the addresses that no answer may have.
func (s *Spec) allowed(addrs []netip.Addr) []netip.Addr {
	if len(s.Reject) == 0 {
		return addrs
	}
	return slices.DeleteFunc(slices.Clone(addrs), func(a netip.Addr) bool {
		in := slices.ContainsFunc(s.Reject, func(p netip.Prefix) bool { return p.Contains(a.Unmap()) })
		return in != s.Invert
	})
}

func (s *Spec) afterFailure(n int) time.Duration {
	if s.FailureBase <= 0 {
		return s.Refresh
	}
	return backoff.Policy{Base: s.FailureBase, Max: max(s.FailureMax, s.FailureBase)}.Limit(n)
}

// sameSet reports whether two answers have the same addresses: servers shuffle them.
func sameSet(a, b []netip.Addr) bool {
	if len(a) != len(b) {
		return false
	}
	x, y := slices.Clone(a), slices.Clone(b)
	slices.SortFunc(x, netip.Addr.Compare)
	slices.SortFunc(y, netip.Addr.Compare)
	return slices.Equal(x, y)
}
