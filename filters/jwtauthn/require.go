package jwtauthn

import (
	"time"

	"github.com/mecha-mesh/mecha/proxy/filter"
)

// requirement is what a request needs. A nil one needs nothing.
type requirement struct {
	kind      requirementKind
	provider  *provider
	audiences audiences // of provider, in place of its own; nil: its own
	places    *places   // of one
	list      []*requirement

	// Of anyOf: what is enough besides.
	missingOK, failedOK bool
}

type requirementKind uint8

const (
	one          requirementKind = iota // a token of a provider
	anyOf                               // one of list
	allOf                               // all of list
	allowMissing                        // a token, if there is one, is good
	allowFailed                         // nothing: good tokens are used
)

// check is the work on one stream.
type check struct {
	*shared
	s        *filter.Stream
	now      time.Time
	metadata []entry
	reroute  bool
	over     error // the end of the stream, in place of a verdict
	// hypothetical is that nobody has sent the request: keys are not fetched for it.
	hypothetical bool
}

// entry is what goes into dynamic metadata.
type entry struct {
	key   string
	value any
}

func (c *check) set(key string, v any) { c.metadata = append(c.metadata, entry{key, v}) }

// verify reports whether a request has what it needs.
func (c *check) verify(r *requirement) status {
	switch {
	case r == nil:
		return statusOK
	case r.kind == anyOf:
		return c.verifyAny(r)
	case r.kind == allOf:
		for _, each := range r.list {
			if st := c.verify(each); st != statusOK || c.over != nil {
				return st
			}
		}
		return statusOK
	}
	for _, name := range r.places.reserved {
		c.s.Request.Del(name)
	}
	var few [4]found
	tokens := r.places.find(c.s, few[:0])
	st := missing
	if len(tokens) > maxTokens {
		st = multipleTokens
		tokens = nil
	}
	for i := len(tokens) - 1; i >= 0 && c.over == nil; i-- {
		var p *provider
		if st, p = c.verifyToken(r, &tokens[i]); st != statusOK {
			c.noteFailure(p, st)
			if r.kind != allowFailed {
				return st // all tokens must be good, or a host might go by the bad one
			}
		}
	}
	if r.kind == allowFailed || r.kind == allowMissing && st == missing {
		return statusOK
	}
	return st
}

// verifyAny tries one requirement after the other. Of several failures it tells the one
// that says most.
func (c *check) verifyAny(r *requirement) status {
	worst := missing
	for _, each := range r.list {
		st := c.verify(each)
		if st == statusOK || c.over != nil {
			return st
		}
		if st != missing && st != unknownIssuer || worst == missing {
			worst = st
		}
	}
	if r.failedOK || r.missingOK && worst == missing {
		return statusOK
	}
	return worst
}

// verifyToken checks one token, and does what its provider wants if it is good. The
// provider is nil where none was found.
func (c *check) verifyToken(r *requirement, f *found) (status, *provider) {
	p := r.provider
	var src *source
	var t *token
	if p != nil {
		src = c.sources[p]
		t = c.cached(src, f.raw)
	}
	known := t != nil
	if !known {
		var st status
		if t, st = parseToken(f.raw); st != statusOK {
			return st, p
		}
	}
	if !f.at.allows(t.iss) {
		return unknownIssuer, p
	}
	if p == nil {
		if p = c.byIssuer(t.iss); p == nil {
			return unknownIssuer, nil
		}
		src = c.sources[p]
	}
	if st := p.accepts(t, r.audiences, c.now); st != statusOK {
		return st, p
	}
	if !known {
		if c.hypothetical && src.p.remote != nil && src.current(c.now) == nil {
			c.over = errNotFetched
			return fetchFailed, p
		}
		keys, st, err := src.keys(c.s, c.now)
		if err != nil {
			c.over = err
			return fetchFailed, p
		}
		if st == statusOK {
			st = keys.verify(t)
		}
		if st != statusOK {
			return st, p
		}
		if r.provider != nil {
			c.caches[p].add(t, keys)
		}
	}
	c.reroute = p.apply(c.s, t, f.at) || c.reroute
	p.metadata(t, c.set)
	return statusOK, p
}

// cached finds a token that was verified before.
func (c *check) cached(src *source, raw string) *token {
	t := c.caches[src.p].find(raw, src.current(c.now))
	if t != nil {
		c.counters.CacheHit.Inc()
	} else {
		c.counters.CacheMiss.Inc()
	}
	return t
}

// byIssuer returns the provider of an issuer, or else one that takes any.
func (c *check) byIssuer(issuer string) *provider {
	for _, p := range c.config.providers {
		if p.issuer == issuer && issuer != "" {
			return p
		}
	}
	for _, p := range c.config.providers {
		if p.issuer == "" {
			return p
		}
	}
	return nil
}

// noteFailure tells in dynamic metadata what was wrong with a token.
func (c *check) noteFailure(p *provider, st status) {
	if p != nil && p.failureIn != "" {
		c.set(p.failureIn, map[string]any{"code": float64(st), "message": st.String()})
	}
}
