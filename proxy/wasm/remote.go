package wasm

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mecha-mesh/mecha/proxy/backoff"
	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/filter/call"
	"github.com/mecha-mesh/mecha/proxy/header"
)

// Remote is code that is fetched (vm_config.code.remote).
type Remote struct {
	call.HTTP
	SHA256 string         // of the code, in hexadecimal digits
	Times  int            // num_retries
	Pauses backoff.Policy // retry_back_off
	// Refuse has the configuration refused until the code has been fetched
	// (nack_on_code_cache_miss).
	Refuse bool
}

// maxCodes is how much fetched code a process keeps.
const maxCodes = 256 << 20

// keepFor is how long code that nobody uses is kept.
const keepFor = 24 * time.Hour

// again is how long code is waited for that could not be fetched, before it is asked for
// again.
const again = 30 * time.Second

var (
	errNoCode  = errors.New("wasm: the code has not been fetched")
	errMissing = errors.New("wasm: the code is being fetched; until it is here the configuration is refused (nack_on_code_cache_miss)")
)

// codes is code that was fetched, by its checksum. It is safe for concurrent use.
type codes struct {
	mu       sync.Mutex
	by       map[string]string
	order    []string // the oldest one first
	bytes    int
	underway map[string]bool // that nobody waits for
	*fetches
}

func (c *codes) get(sum string) (string, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	code, ok := c.by[sum]
	return code, ok
}

func (c *codes) put(sum, code string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, ok := c.by[sum]; ok {
		return
	}
	for len(c.order) > 0 && c.bytes+len(code) > maxCodes {
		c.bytes -= len(c.by[c.order[0]])
		delete(c.by, c.order[0])
		c.order = c.order[1:]
	}
	c.by[sum] = code
	c.order = append(c.order, sum)
	c.bytes += len(code)
	c.Entries.Set(int64(len(c.order)))
}

// fetch gets code from where r says, once.
func (c *codes) fetch(ctx context.Context, clusters *call.Client, r *Remote) error {
	q := &call.Request{Cluster: r.Cluster, Timeout: r.Timeout, Limit: MaxCode}
	q.Header.AddID(header.Method, "GET")
	q.Header.AddID(header.Path, r.Path)
	q.Header.AddID(header.Authority, r.Authority)
	var a call.Response
	err := clusters.Do(call.Background(ctx), q, &a)
	switch sum := sha256.Sum256(a.Body); {
	case err != nil:
	case a.Code() != 200:
		err = fmt.Errorf("wasm: the answer to the request for the code is %d", a.Code())
	case hex.EncodeToString(sum[:]) != r.SHA256:
		err = fmt.Errorf("wasm: the code has the SHA-256 %x, not %s", sum, r.SHA256)
	default:
		c.Successes.Inc()
		c.put(r.SHA256, string(a.Body))
		return nil
	}
	c.Failures.Inc()
	return err
}

// fetchAll is fetch with retries.
func (c *codes) fetchAll(ctx context.Context, env *filter.Env, r *Remote) (err error) {
	client := call.NewClient(env.Clusters)
	for try := 0; ; try++ {
		if err = c.fetch(ctx, client, r); err == nil || try >= r.Times || ctx.Err() != nil {
			return err
		}
		if over := r.Pauses.Wait(ctx, try+1); over != nil {
			return over
		}
	}
}

// prefetch fetches code that nobody waits for. release is called when c need not be kept any
// more.
func (c *codes) prefetch(env filter.Env, r *Remote, release func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.underway[r.SHA256] {
		release()
		return
	}
	c.underway[r.SHA256] = true
	go func() {
		defer time.AfterFunc(keepFor, release)                            // the configuration comes again
		if err := c.fetchAll(context.Background(), &env, r); err != nil { // each request has a time limit
			env.Log.Error("wasm: the code could not be fetched", "cluster", r.Cluster, "err", err)
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		delete(c.underway, r.SHA256)
	}()
}

// fetching is a plugin whose code is on its way.
type fetching struct {
	tried  chan struct{} // closed when it is known whether the code is to be had
	loaded atomic.Bool
	cancel func()

	mu      sync.Mutex
	retired bool
}

// wait waits until it is known whether there is code, and tells.
func (f *fetching) wait() bool {
	if f.loaded.Load() {
		return true
	}
	<-f.tried // each request has a time limit
	return f.loaded.Load()
}

// load fetches the code of p and starts it, again and again until it can be.
func (p *Plugin) load(ctx context.Context, c *codes, r *Remote) {
	f := p.fetch
	for first := true; ; first = false {
		err := c.fetchAll(ctx, &p.env, r)
		if err == nil {
			code, _ := c.get(r.SHA256)
			f.mu.Lock()
			if f.retired {
				f.mu.Unlock()
				break
			}
			if err = p.start(code); err == nil {
				f.loaded.Store(true)
			}
			f.mu.Unlock()
		}
		if err != nil && ctx.Err() == nil {
			p.env.Log.Error("wasm: the plugin does not run yet", "plugin", p.Name, "cluster", r.Cluster, "err", err)
		}
		if first {
			close(f.tried)
		}
		if f.loaded.Load() || call.Background(ctx).Sleep(again) != nil {
			return
		}
	}
	select {
	case <-f.tried:
	default:
		close(f.tried)
	}
}
