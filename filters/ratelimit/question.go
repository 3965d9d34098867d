package ratelimit

import (
	"strconv"
	"strings"

	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/filter/ratelimit"
)

// question is what a service is asked. Its strings are lent by the stream.
type question struct {
	domain      string
	descriptors []descriptor
	hits        uint32 // of the whole question, 0: not said
}

// descriptor is what counts together.
type descriptor struct {
	entries  []ratelimit.Entry
	limit    *limit // in place of the service's
	counted  bool   // hits is said
	hits     uint64
	negative bool // hits are given back
}

// limit is another limit than the service's.
type limit struct {
	requests uint32
	unit     string // SECOND, MINUTE ...
}

func (q *question) reset() { *q = question{} }

// hitsKey is where filters before this one say how much a request counts.
const hitsKey = "envoy.ratelimit.hits_addend"

// hitsOf is what the filter state says that a request counts.
func hitsOf(object any) uint32 {
	text, ok := filter.StateText(object)
	if !ok {
		return 0
	}
	n, err := strconv.ParseUint(strings.TrimSpace(text), 10, 32)
	if err != nil {
		return 0
	}
	return uint32(n)
}

// describe makes the question about a stream: that of its beginning, or of its end.
func (f *Filter) describe(s *filter.Stream, done bool) {
	own, _ := filter.Override[*Config](s, f.env.Slot)
	f.question = question{domain: f.Domain, hits: hitsOf(s.FilterState(hitsKey))}
	if own != nil && own.Route.Domain != "" {
		f.question.domain = own.Route.Domain
	}
	f.eachLimit(s, own, func(l *ratelimit.Limit, staged bool) {
		if l.OnDone == done && (!staged || l.Applies(s, f.Stage)) {
			f.add(s, l)
		}
	})
}

// countsOnDone reports whether something about a stream is told at its end.
func (f *Filter) countsOnDone(s *filter.Stream) (any bool) {
	own, _ := filter.Override[*Config](s, f.env.Slot)
	f.eachLimit(s, own, func(l *ratelimit.Limit, _ bool) { any = any || l.OnDone })
	return any
}

// eachLimit yields the limits of a stream: those of the route's configuration of the filter,
// or else of the filter's own, or else of the route and its virtual host, which have stages.
func (f *Filter) eachLimit(s *filter.Stream, own *Config, yield func(l *ratelimit.Limit, staged bool)) {
	all := func(list ratelimit.Limits, staged bool) {
		for i := range list {
			yield(&list[i], staged)
		}
	}
	r, ok := s.Route.(ratelimit.Routed)
	if !ok {
		return
	}
	how := override
	if own != nil {
		if len(own.Route.Own) > 0 {
			all(own.Route.Own, false)
			return
		}
		how = own.Route.VirtualHost
	}
	if len(f.Own) > 0 {
		all(f.Own, false)
		return
	}
	route, host, both := r.RateLimits()
	all(route, true)
	if both || how == include || how == override && len(route) == 0 {
		all(host, true)
	}
}

// add adds the descriptor of a limit, if the stream has all that it is made of.
func (f *Filter) add(s *filter.Stream, l *ratelimit.Limit) {
	d := descriptor{}
	var ok bool
	if d.entries, ok = l.Append(nil, s, f.env.Node.Cluster); !ok {
		return
	}
	if l.Override != nil {
		if n, unit, ok := l.Override.Value(s); ok {
			d.limit = &limit{n, unit}
		}
	}
	if l.Hits != nil {
		if d.hits, ok = l.Hits.Count(s); !ok {
			return
		}
		d.counted, d.negative = true, l.Hits.Negative
	}
	f.question.descriptors = append(f.question.descriptors, d)
}
