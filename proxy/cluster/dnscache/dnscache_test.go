package dnscache

import (
	"context"
	"errors"
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// zone answers lookups as the test says.
type zone struct {
	mu    sync.Mutex
	addrs map[string][]netip.Addr
	ttl   time.Duration
	err   error
	slow  time.Duration
	asked int
}

func (z *zone) lookup(ctx context.Context, name string) ([]netip.Addr, time.Duration, error) {
	z.mu.Lock()
	slow := z.slow
	z.asked++
	z.mu.Unlock()
	select {
	case <-time.After(slow):
	case <-ctx.Done():
		return nil, 0, ctx.Err()
	}
	z.mu.Lock()
	defer z.mu.Unlock()
	return z.addrs[name], z.ttl, z.err
}

func (z *zone) set(f func()) {
	z.mu.Lock()
	defer z.mu.Unlock()
	f()
}

func ips(text ...string) (out []netip.Addr) {
	for _, s := range text {
		out = append(out, netip.MustParseAddr(s))
	}
	return out
}

func spec() *Spec {
	return &Spec{
		Name: "n", Refresh: time.Minute, MinRefresh: 5 * time.Second, HostTTL: 5 * time.Minute, QueryTimeout: 5 * time.Second,
		MaxHosts: 2, MaxPending: 2,
	}
}

func run(t *testing.T, s *Spec, f func(t *testing.T, c *Cache, z *zone)) {
	synctest.Test(t, func(t *testing.T) {
		z := &zone{addrs: map[string][]netip.Addr{"a.test": ips("10.0.0.1", "10.0.0.2"), "b.test": ips("10.0.0.3")}, ttl: 10 * time.Second}
		c := New(s, z.lookup, nil)
		f(t, c, z)
		c.Close()
		synctest.Wait()
	})
}

func TestResolve(t *testing.T) {
	run(t, spec(), func(t *testing.T, c *Cache, z *zone) {
		var gone []Key
		stop := c.OnRemove(func(k Key) { gone = append(gone, k) })
		a, b := Key{"a.test", 80}, Key{"b.test", 80}
		if c.Get(a) != nil {
			t.Error("an address before the lookup")
		}
		got, err := c.Resolve(t.Context(), a)
		if err != nil || len(got) != 2 {
			t.Fatal(got, err)
		}
		first := c.Get(a)
		z.set(func() { z.addrs["a.test"] = ips("10.0.0.2", "10.0.0.1") })
		time.Sleep(11 * time.Second)
		if now := c.Get(a); &now[0] != &first[0] {
			t.Error("another order is another answer")
		}
		z.set(func() { z.addrs["a.test"] = ips("10.0.0.9") })
		time.Sleep(11 * time.Second)
		if now := c.Get(a); len(now) != 1 || now[0] != ips("10.0.0.9")[0] {
			t.Errorf("after its TTL the name has %v", now)
		}
		z.set(func() { z.err = errors.New("no server") })
		time.Sleep(time.Minute)
		if now := c.Get(a); len(now) != 1 {
			t.Errorf("after failures the name has %v", now)
		}
		z.set(func() { z.err = nil })
		if _, err := c.Resolve(t.Context(), b); err != nil {
			t.Error(err)
		}
		if _, err := c.Resolve(t.Context(), Key{"c.test", 80}); !errors.Is(err, ErrFull) || c.s.Overflow.Value() != 1 {
			t.Errorf("a third name: %v", err)
		}
		for range 40 {
			time.Sleep(10 * time.Second)
			c.Get(b)
		}
		synctest.Wait()
		if len(gone) != 1 || gone[0] != a || c.s.Hosts.Value() != 1 {
			t.Errorf("forgotten: %v, left: %d", gone, c.s.Hosts.Value())
		}
		stop()
	})
}

func TestFailures(t *testing.T) {
	s := spec()
	s.FailureBase, s.FailureMax = time.Second, 4*time.Second
	run(t, s, func(t *testing.T, c *Cache, z *zone) {
		k := Key{"nobody.test", 80}
		var failed *Failure
		if _, err := c.Resolve(t.Context(), k); !errors.As(err, &failed) {
			t.Errorf("a name without addresses: %v", err)
		}
		time.Sleep(20 * time.Second) // 0, 1, 3, 7, 11, 15, 19
		if n := c.s.Attempt.Value(); n != 7 {
			t.Errorf("%d lookups, want 7", n)
		}
		z.set(func() { z.addrs["nobody.test"] = ips("10.0.0.7") })
		time.Sleep(5 * time.Second)
		if a, err := c.Resolve(t.Context(), k); err != nil || len(a) != 1 {
			t.Error(a, err)
		}
	})
}

func TestFailedNamesAreForgotten(t *testing.T) {
	s := spec()
	s.ForgetFailed = true
	run(t, s, func(t *testing.T, c *Cache, z *zone) {
		k := Key{"nobody.test", 80}
		for range 2 {
			if _, err := c.Resolve(t.Context(), k); err == nil {
				t.Error("a name without addresses has some")
			}
			synctest.Wait()
		}
		if c.s.Attempt.Value() != 2 || c.s.Hosts.Value() != 0 {
			t.Errorf("%d lookups, %d hosts", c.s.Attempt.Value(), c.s.Hosts.Value())
		}
	})
}

func TestPendingRequestsAreLimited(t *testing.T) {
	run(t, spec(), func(t *testing.T, c *Cache, z *zone) {
		z.set(func() { z.slow = time.Second })
		errs := make(chan error, 3)
		for range 3 {
			go func() {
				_, err := c.Resolve(t.Context(), Key{"a.test", 80})
				errs <- err
			}()
			synctest.Wait()
		}
		if err := <-errs; !errors.Is(err, ErrPending) {
			t.Errorf("the third request: %v", err)
		}
		if a, b := <-errs, <-errs; a != nil || b != nil {
			t.Error(a, b)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second/2)
		defer cancel()
		if _, err := c.Resolve(ctx, Key{"b.test", 80}); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("a request that gives up: %v", err)
		}
	})
}

func TestQueryTimeout(t *testing.T) {
	run(t, spec(), func(t *testing.T, c *Cache, z *zone) {
		z.set(func() { z.slow = time.Hour })
		begun := time.Now()
		if _, err := c.Resolve(t.Context(), Key{"a.test", 80}); err == nil || time.Since(begun) != 5*time.Second || c.s.Timeout.Value() != 1 {
			t.Errorf("after %v: %v", time.Since(begun), err)
		}
	})
}

func TestAddressesThatNoAnswerMayHave(t *testing.T) {
	s := spec()
	s.Reject = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/31")}
	run(t, s, func(t *testing.T, c *Cache, z *zone) {
		if a, err := c.Resolve(t.Context(), Key{"a.test", 80}); err != nil || len(a) != 1 || a[0] != ips("10.0.0.2")[0] {
			t.Error(a, err)
		}
	})
	s.Invert = true
	run(t, s, func(t *testing.T, c *Cache, z *zone) {
		if a, err := c.Resolve(t.Context(), Key{"a.test", 80}); err != nil || len(a) != 1 || a[0] != ips("10.0.0.1")[0] {
			t.Error(a, err)
		}
		if _, err := c.Resolve(t.Context(), Key{"b.test", 80}); err == nil {
			t.Error("an address outside the only allowed range")
		}
	})
}

func TestPreresolve(t *testing.T) {
	s := spec()
	s.Preresolve = []Key{{"a.test", 80}}
	run(t, s, func(t *testing.T, c *Cache, z *zone) {
		synctest.Wait()
		if len(c.Get(Key{"a.test", 80})) != 2 {
			t.Error("the name is not there")
		}
	})
}

func TestParseKey(t *testing.T) {
	for in, want := range map[string]Key{
		"web.test": {"web.test", 80}, "WEB.test:81": {"web.test", 81}, "[::1]:82": {"::1", 82}, "[::1]": {"::1", 80},
		"::1": {"::1", 80}, "10.0.0.1:83": {"10.0.0.1", 83},
		"": {}, ":80": {}, "a:b": {}, "a:99999": {}, "[::1": {}, "[x]:1": {}, "[::1]x": {},
	} {
		got, ok := ParseKey(in, 80)
		if got != want || ok != (want.Host != "") {
			t.Errorf("%q is %v, %t, want %v", in, got, ok, want)
		}
	}
}

func FuzzParseKey(f *testing.F) {
	f.Add("web.test:80")
	f.Fuzz(func(t *testing.T, in string) {
		if k, ok := ParseKey(in, 80); ok && k.Host == "" {
			t.Errorf("%q is a name without letters", in)
		}
	})
}
