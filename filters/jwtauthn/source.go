package jwtauthn

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/filter/call"
	"github.com/mecha-mesh/mecha/proxy/header"
)

// Remote is where keys are fetched (remote_jwks).
type Remote struct {
	call.HTTP
	Keep    time.Duration // cache_duration
	Async   bool          // async_fetch: fetched before anybody asks, and again in time
	Refetch time.Duration // failed_refetch_duration
	Retries *call.Retries // of one fetch
}

// source has the keys of a provider. Everybody who needs keys that are not there waits for
// one fetch.
type source struct {
	p        *provider
	client   *call.Client
	counters *counters
	ctx      context.Context // of the chain

	set atomic.Pointer[fetched]

	mu    sync.Mutex
	under *flight // nil: no fetch is under way
}

type fetched struct {
	keys  *keySet
	until time.Time
}

// flight is a fetch under way.
type flight struct {
	done   chan struct{}
	keys   *keySet
	status status
}

// maxKeySet bounds a key set that is fetched.
const maxKeySet = 1 << 20

// current returns the keys of now without waiting; nil if they have to be fetched.
func (src *source) current(now time.Time) *keySet {
	if src.p.remote == nil {
		return src.p.local
	}
	if f := src.set.Load(); f != nil && now.Before(f.until) {
		return f.keys
	}
	return nil
}

// keys returns the keys, which may mean to wait for them. An error is the end of the
// stream that waits.
func (src *source) keys(s *filter.Stream, now time.Time) (*keySet, status, error) {
	if k := src.current(now); k != nil {
		return k, statusOK, nil
	}
	if src.p.remote == nil {
		return nil, noValidKeys, nil
	}
	f := src.join()
	if _, err := s.Engine.Wait(f.done, time.Time{}); err != nil {
		return nil, fetchFailed, err
	}
	return f.keys, f.status, nil
}

// join returns the fetch under way, a new one if there is none.
func (src *source) join() *flight {
	src.mu.Lock()
	defer src.mu.Unlock()
	if src.under == nil {
		src.under = &flight{done: make(chan struct{})}
		go src.fly(src.under)
	}
	return src.under
}

// fly fetches.
func (src *source) fly(f *flight) {
	if f.keys, f.status = src.fetch(); f.status == statusOK {
		src.counters.FetchSuccess.Inc()
		src.set.Store(&fetched{f.keys, time.Now().Add(src.p.remote.Keep)})
	} else {
		src.counters.FetchFailed.Inc()
	}
	src.mu.Lock()
	src.under = nil
	src.mu.Unlock()
	close(f.done)
}

func (src *source) fetch() (*keySet, status) {
	r := src.p.remote
	q := &call.Request{Cluster: r.Cluster, Timeout: r.Timeout, Limit: maxKeySet}
	q.Header.AddID(header.Method, "GET")
	q.Header.AddID(header.Path, r.Path)
	q.Header.AddID(header.Authority, r.Authority)
	q.Header.AddID(header.UserAgent, "Go-browser") // as Envoy, since some servers refuse requests without one
	var a call.Response
	if err := src.client.DoAgain(call.Background(src.ctx), q, &a, r.Retries); err != nil || a.Code() != 200 {
		return nil, fetchFailed
	}
	keys, st := parseKeys(a.Body)
	if st != statusOK {
		return nil, fetchFailed
	}
	return keys, statusOK
}

// renew fetches the keys ahead until the chain ends.
func (src *source) renew() {
	r := src.p.remote
	for src.ctx.Err() == nil {
		f := src.join()
		select {
		case <-f.done:
		case <-src.ctx.Done():
			return
		}
		pause := r.Keep - min(r.Keep/10, 5*time.Second)
		if f.status != statusOK {
			pause = r.Refetch
		}
		_ = call.Background(src.ctx).Sleep(pause) // its end ends the loop
	}
}
