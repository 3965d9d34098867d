package route

import (
	"slices"
	"strconv"
	"time"

	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/header"
	"github.com/mecha-mesh/mecha/proxy/match"
)

// HashPolicy makes a hash of something of the request, by which the load balancer
// chooses (RouteAction.HashPolicy).
type HashPolicy struct {
	Kind     HashKind
	Name     string // of the header (lower case), cookie, query parameter, filter state
	Terminal bool   // if it makes a hash, or one was made before, that is it
	// Rewrite is what is hashed of a header's value; nil: all of it.
	Rewrite *match.Substitution
	// Cookie is what to tell a client that does not have the cookie; nil: nothing.
	Cookie *NewCookie
}

// HashKind is what is hashed.
type HashKind uint8

// The kinds.
const (
	HashHeader HashKind = iota
	HashCookie
	HashSourceIP
	HashQuery
	HashState
)

// NewCookie is how a cookie is set.
type NewCookie struct {
	TTL        time.Duration // 0 is a session cookie
	Path       string
	Attributes []CookieAttribute
}

// CookieAttribute is one that a Set-Cookie field has beside those of its own.
type CookieAttribute struct{ Name, Value string }

// Hasher is a filter state object that hashes itself.
type Hasher interface{ Hash64() (uint64, bool) }

// Hash combines what the policies make of a request; ok is false if that is nothing.
// Cookies that are to be set come back as Set-Cookie values; they are made for clients
// that have none yet, and cost memory then.
func (a *ForwardAction) Hash(s *filter.Stream) (hash uint64, cookies []string, ok bool) {
	return a.hash(s, true)
}

// hash is Hash. Unless absent is set, a cookie that the client does not have makes nothing.
func (a *ForwardAction) hash(s *filter.Stream, absent bool) (hash uint64, cookies []string, ok bool) {
	for i := range a.HashPolicies {
		p := &a.HashPolicies[i]
		if !absent && p.Kind == HashCookie && match.CookieValue(&s.Request, p.Name) == "" {
			if p.Terminal && ok {
				break
			}
			continue
		}
		h, cookie, made := p.hash(s)
		if made {
			if ok {
				h ^= hash<<1 | hash>>63
			}
			hash, ok = h, true
		}
		if cookie != "" {
			cookies = append(cookies, cookie)
		}
		if p.Terminal && ok {
			break
		}
	}
	return hash, cookies, ok
}

func (p *HashPolicy) hash(s *filter.Stream) (hash uint64, cookie string, ok bool) {
	switch p.Kind {
	case HashHeader:
		hash, ok = p.ofHeader(&s.Request)
	case HashCookie:
		return p.ofCookie(s)
	case HashSourceIP:
		if ip := s.Conn.Remote.Addr(); ip.IsValid() {
			var b [64]byte
			return match.Hash64(ip.AppendTo(b[:0]), 0), "", true
		}
	case HashQuery:
		v, found := match.QueryValue(s.Request.Value(header.Path), p.Name)
		if found {
			return match.Hash64(v, 0), "", true
		}
	case HashState:
		switch v := s.FilterState(p.Name).(type) {
		case nil:
		case Hasher:
			hash, ok = v.Hash64()
		default:
			if text, is := filter.StateText(v); is {
				return match.Hash64(text, 0), "", true
			}
		}
	}
	return hash, "", ok
}

// ofHeader hashes all values of a header, whatever their order.
func (p *HashPolicy) ofHeader(m *header.Map) (hash uint64, ok bool) {
	var some [8]string
	values := some[:0]
	for v := range m.Values(p.Name) {
		if p.Rewrite != nil {
			v = m.Format(func(dst []byte) []byte { return p.Rewrite.Append(dst, v) })
		}
		values = append(values, v)
	}
	slices.Sort(values)
	for _, v := range values {
		hash = match.Hash64(v, hash)
	}
	return hash, len(values) > 0
}

// ofCookie hashes a cookie. Who has none, gets one that is made of the addresses of the
// connection: streams that race on it agree.
func (p *HashPolicy) ofCookie(s *filter.Stream) (hash uint64, cookie string, ok bool) {
	if v := match.CookieValue(&s.Request, p.Name); v != "" {
		return match.Hash64(v, 0), "", true
	}
	if p.Cookie == nil {
		return 0, "", false
	}
	from := match.Hash64(s.Accepted().Remote.String()+s.Accepted().Local.String(), 0)
	value := strconv.FormatUint(from, 16)
	for len(value) < 16 {
		value = "0" + value
	}
	return match.Hash64(value, 0), p.Cookie.format(p.Name, value), true
}

func (c *NewCookie) format(name, value string) string {
	b := append([]byte(name), `="`+value+`"`...)
	if c.TTL > 0 {
		b = strconv.AppendInt(append(b, "; Max-Age="...), int64(c.TTL/time.Second), 10)
	}
	if c.Path != "" {
		b = append(b, "; Path="+c.Path...)
	}
	for _, a := range c.Attributes {
		b = append(b, "; "+a.Name...)
		if a.Value != "" {
			b = append(b, "="+a.Value...)
		}
	}
	return string(append(b, "; HttpOnly"...))
}
