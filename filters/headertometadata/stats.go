package headertometadata

import (
	"sync"

	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/stats"
)

// counters is http_filter_name.<stat_prefix>.*.
type counters struct {
	RequestRules    stats.Counter `stat:"request_rules_processed" help:"rules that were applied to requests"`
	RequestAdded    stats.Counter `stat:"request_metadata_added" help:"values of requests that were stored"`
	RequestMissing  stats.Counter `stat:"request_header_not_found" help:"rules with on_header_missing whose header a request had not"`
	ResponseRules   stats.Counter `stat:"response_rules_processed" help:"rules that were applied to responses"`
	ResponseAdded   stats.Counter `stat:"response_metadata_added" help:"values of responses that were stored"`
	ResponseMissing stats.Counter `stat:"response_header_not_found" help:"rules with on_header_missing whose header a response had not"`
	TooLong         stats.Counter `stat:"header_value_too_long" help:"values of 8192 bytes or more, which are not stored"`
	Undecodable     stats.Counter `stat:"base64_decode_failed" help:"values that are not base64, which are not stored"`
	Unrewritten     stats.Counter `stat:"regex_substitution_failed" help:"values of which a substitution has left nothing"`
}

// direction is what is counted of requests or of responses.
type direction struct{ rules, added, missing *stats.Counter }

func (n *counters) request() direction {
	return direction{&n.RequestRules, &n.RequestAdded, &n.RequestMissing}
}

func (n *counters) response() direction {
	return direction{&n.ResponseRules, &n.ResponseAdded, &n.ResponseMissing}
}

// counts are the counters of one chain: those of the filter, and those of routes with a
// prefix of their own.
type counts struct {
	store *stats.Store

	mu      sync.RWMutex
	by      map[string]*counters
	release []func()
}

func newCounts(env filter.Env) *counts {
	c := &counts{store: env.Stats, by: map[string]*counters{"": new(counters)}}
	env.OnRetire(c.close)
	return c
}

// of are the counters under a prefix; those of "" are not shown.
func (c *counts) of(prefix string) *counters {
	c.mu.RLock()
	n := c.by[prefix]
	c.mu.RUnlock()
	if n != nil {
		return n
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if n := c.by[prefix]; n != nil {
		return n
	}
	n, release := stats.SharedAt[counters](c.store, stats.Label{Value: "http_filter_name"}, stats.Label{Value: prefix})
	c.by[prefix] = n
	c.release = append(c.release, release)
	return n
}

func (c *counts) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, f := range c.release {
		f()
	}
	c.release = nil
}
