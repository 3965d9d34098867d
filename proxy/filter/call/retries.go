package call

import (
	"errors"
	"time"

	"github.com/mecha-mesh/mecha/proxy/backoff"
)

// Retries says when and how often a call that failed is made again
// (envoy.config.core.v3.RetryPolicy).
type Retries struct {
	Times          int           // beyond the first
	backoff.Policy               // of the pause before the next one
	PerTry         time.Duration // how long one may take; 0: all of the time
	// Codes tells which answers are failures. Failed: calls without an answer are made again.
	Codes  func(code int) bool
	Failed bool
}

// DoAgain is Do, again as r says, all within q.Timeout; a nil r is Do. One that takes too long
// is one without an answer. What Do fails with for want of a cluster, of room or of a waiter is
// final.
func (c *Client) DoAgain(w Waiter, q *Request, a *Response, r *Retries) error {
	if r == nil || r.Times == 0 {
		return c.Do(w, q, a)
	}
	defer q.Body.Release()
	total := q.Timeout
	if total <= 0 || total > longest {
		total = longest
	}
	until := time.Now().Add(total)
	for try := 0; ; try++ {
		one := Request{Cluster: q.Cluster, Timeout: q.Timeout, Limit: q.Limit, Plain: q.Plain, Anonymous: q.Anonymous}
		q.Header.CopyTo(&one.Header, true)
		q.Trailers.CopyTo(&one.Trailers, true)
		one.Timeout = max(time.Until(until), time.Millisecond)
		if r.PerTry > 0 {
			one.Timeout = min(one.Timeout, r.PerTry)
		}
		q.Body.Share(&one.Body, q.Body.Len())
		*a = Response{}
		err := c.Do(w, &one, a)
		if try >= r.Times || !r.again(a, err) {
			return err
		}
		pause := r.Pause(try + 1)
		if time.Until(until) <= pause {
			return err
		}
		if over := w.Sleep(pause); over != nil {
			return &ended{over}
		}
	}
}

// again tells whether a call is made again after this.
func (r *Retries) again(a *Response, err error) bool {
	switch {
	case err == nil:
		return r.Codes != nil && r.Codes(a.Code())
	case Ended(err) != nil, errors.Is(err, ErrNoCluster), errors.Is(err, ErrTooLarge):
		return false
	}
	return r.Failed
}
