package jwtauthn

import (
	"net/url"
	"strings"

	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/header"
	"github.com/mecha-mesh/mecha/proxy/match"
)

// place is where a request may have a token.
type place struct {
	kind    placeKind
	name    string              // of the header, in lower case; of the parameter or the cookie
	prefix  string              // before the token, in headers
	issuers map[string]struct{} // of the providers that look there; nil: any
}

type placeKind uint8

const (
	inHeader placeKind = iota
	inQuery
	inCookie
)

// places are where the tokens of some providers are, and what else of a request those
// reserve for themselves.
type places struct {
	list     []place
	reserved []string // headers that only the filter may set
}

// placesOf collects the places of providers, headers first.
func placesOf(list ...*provider) *places {
	out := &places{}
	for _, kind := range []placeKind{inHeader, inQuery, inCookie} {
		for _, p := range list {
			for _, l := range p.places {
				if l.kind == kind {
					out.add(l, p.issuer)
				}
			}
		}
	}
	for _, p := range list {
		if p.forwardPayload != "" {
			out.reserved = append(out.reserved, p.forwardPayload)
		}
		for _, c := range p.claims {
			out.reserved = append(out.reserved, c.header)
		}
	}
	return out
}

func (p *places) add(l place, issuer string) {
	for i := range p.list {
		old := &p.list[i]
		if old.kind != l.kind || old.name != l.name || old.prefix != l.prefix {
			continue
		}
		if issuer == "" {
			old.issuers = nil
		} else if old.issuers != nil {
			old.issuers[issuer] = struct{}{}
		}
		return
	}
	if issuer != "" {
		l.issuers = map[string]struct{}{issuer: {}}
	}
	p.list = append(p.list, l)
}

// found is a token in a request.
type found struct {
	raw string
	at  *place
}

// maxTokens is how many tokens of a request are looked at: each costs a signature.
const maxTokens = 32

// find returns the tokens of a request, in the order of the places. There may be one too
// many, which no place allows.
func (p *places) find(s *filter.Stream, dst []found) []found {
	for i := range p.list {
		at := &p.list[i]
		switch at.kind {
		case inHeader:
			for v := range s.Request.Values(at.name) {
				if v, ok := at.cut(v); ok && len(dst) <= maxTokens {
					dst = append(dst, found{v, at})
				}
			}
		case inQuery:
			if v, ok := match.QueryValue(s.Request.Value(header.Path), at.name); ok {
				if plain, err := url.PathUnescape(v); err == nil {
					v = plain
				}
				dst = append(dst, found{v, at})
			}
		case inCookie:
			if v := match.CookieValue(&s.Request, at.name); v != "" {
				dst = append(dst, found{v, at})
			}
		}
	}
	return dst
}

// cut returns the token in the value of a header: what follows the prefix, wherever that
// is, and characters that no token has.
func (l *place) cut(v string) (string, bool) {
	if l.prefix == "" {
		return v, true
	}
	i := strings.Index(v, l.prefix)
	if i < 0 {
		return "", false
	}
	rest := v[i+len(l.prefix):]
	start := strings.IndexFunc(rest, inToken)
	if start < 0 {
		return v, true
	}
	return rest[start:], true
}

func inToken(r rune) bool {
	return r >= 'A' && r <= 'Z' || r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || r == '-' || r == '_' || r == '.'
}

// allows reports whether a provider of that issuer looks there.
func (l *place) allows(issuer string) bool {
	if l.issuers == nil {
		return true
	}
	_, ok := l.issuers[issuer]
	return ok
}

// remove takes a token out of the request. Cookies stay, as in Envoy.
func (l *place) remove(s *filter.Stream) {
	switch l.kind {
	case inHeader:
		s.Request.Del(l.name)
	case inQuery:
		s.Request.SetID(header.Path, withoutParameter(s.Request.Value(header.Path), l.name))
	}
}

// withoutParameter removes a parameter from the query of a path.
func withoutParameter(path, name string) string {
	path, query, ok := strings.Cut(path, "?")
	if !ok {
		return path
	}
	var kept []string
	for item := range strings.SplitSeq(query, "&") {
		if n, _, _ := strings.Cut(item, "="); n != name {
			kept = append(kept, item)
		}
	}
	if len(kept) == 0 {
		return path
	}
	return path + "?" + strings.Join(kept, "&")
}
