package healthcheck

import (
	"sync/atomic"
	"time"

	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/header"
	"github.com/mecha-mesh/mecha/proxy/meta"
)

// outcome is what is remembered of an answer.
type outcome struct {
	code     uint16
	degraded bool
}

var degradedField = []header.Field{{Name: header.XEnvoyDegraded.Name(), ID: header.XEnvoyDegraded}}

// reply is the answer without asking again.
func (o outcome) reply() *filter.Reply {
	r := &filter.Reply{Code: int(o.code), Details: "health_check_cached"}
	if o.degraded {
		r.Header = degradedField
	}
	if o.code/100 != 2 {
		r.Flags = meta.FailedLocalHealthCheck
	}
	return r
}

// cache remembers the last answer for the rest of a period. The periods begin when the
// filter is built and are as long as cache_time, so that one check goes through in each.
type cache struct {
	begun  time.Time
	period time.Duration
	last   atomic.Uint64 // period<<17 | code<<1 | degraded; 0: none
}

func newCache(period time.Duration) *cache { return &cache{begun: time.Now(), period: period} }

func (c *cache) now() uint64 { return uint64(time.Since(c.begun) / c.period) }

func (c *cache) put(o outcome) {
	v := c.now()<<17 | uint64(o.code)<<1
	if o.degraded {
		v |= 1
	}
	c.last.Store(v)
}

func (c *cache) get() (o outcome, ok bool) {
	v := c.last.Load()
	o = outcome{uint16(v >> 1), v&1 != 0}
	return o, o.code != 0 && v>>17 == c.now()
}
