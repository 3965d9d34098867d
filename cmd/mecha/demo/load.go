package demo

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"time"
)

// load is customers who ask for the products without a pause.
type load struct {
	began time.Time
	stop  context.CancelFunc
	wg    sync.WaitGroup

	mu      sync.Mutex
	replies []reply
	failed  int
	failure string // what the first failed one saw
}

// reply is one request: when it was sent and answered, since the load began,
// and by which version.
type reply struct {
	sent, answered time.Duration
	version        string
}

// startLoad has customers ask until stop is called or ctx ends. The requests
// under way then are still waited for and counted.
func (s *shop) startLoad(ctx context.Context, customers int) *load {
	l := &load{began: time.Now()}
	more, stop := context.WithCancel(ctx)
	l.stop = stop
	for range customers {
		l.wg.Go(func() {
			for more.Err() == nil {
				l.ask(ctx, s)
			}
		})
	}
	return l
}

// product is what the demo reads of an answer of the catalog.
type product struct {
	Version string `json:"version"`
	Served  int64  `json:"served"`
}

func (l *load) ask(ctx context.Context, s *shop) {
	var p product
	r := reply{sent: time.Since(l.began)}
	status, err := s.call(ctx, http.MethodGet, s.url("/products"), &p)
	if ctx.Err() != nil {
		return // the demo itself was interrupted
	}
	r.answered, r.version = time.Since(l.began), p.Version
	l.mu.Lock()
	defer l.mu.Unlock()
	if err == nil && status == http.StatusOK && p.Version != "" {
		l.replies = append(l.replies, r)
		return
	}
	l.failed++
	if l.failure == "" {
		if l.failure = fmt.Sprintf("status %d", status); err != nil {
			l.failure = err.Error()
		}
	}
}

// end stops the customers and waits for their last answers.
func (l *load) end() {
	l.stop()
	l.wg.Wait()
}

// count is how many requests have been answered.
func (l *load) count() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.replies)
}

// share counts the requests that were sent and answered between two moments.
type share struct{ v1, v2 int }

func (l *load) between(from, to time.Duration) (c share) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, r := range l.replies {
		switch {
		case r.sent < from || r.answered > to:
		case r.version == "v1":
			c.v1++
		default:
			c.v2++
		}
	}
	return c
}

func (c share) total() int { return c.v1 + c.v2 }

// part is the share of v2, from 0 to 1.
func (c share) part() float64 {
	if c.total() == 0 {
		return 0
	}
	return float64(c.v2) / float64(c.total())
}
