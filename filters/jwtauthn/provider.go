package jwtauthn

import (
	"encoding/base64"
	"encoding/json"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/match"
)

// provider is who issues tokens, where they are, and what becomes of good ones.
type provider struct {
	name      string
	issuer    string
	audiences audiences
	subjects  *match.String

	requireExpiration bool
	maxLifetime       time.Duration // 0: any
	skew              time.Duration

	local  *keySet // nil with remote, or if none of the keys is any good
	remote *Remote // nil with local

	places         []place
	forward        bool
	forwardPayload string // header
	padPayload     bool
	payloadIn      string // key of dynamic metadata, "": nowhere
	headerIn       string
	failureIn      string
	splitClaims    []string // of the payload in metadata
	claims         []claimHeader
	clearRoute     bool

	cacheSize, maxCached int // tokens, and the longest one; 0: no cache
}

// claimHeader is a claim that goes into a header.
type claimHeader struct {
	header string
	path   []string
}

// accepts checks what a verified token says, but for its signature.
func (p *provider) accepts(t *token, own audiences, now time.Time) status {
	if st := t.inTime(now, p.skew); st != statusOK {
		return st
	}
	if own == nil {
		own = p.audiences
	}
	if !own.allow(t.aud) {
		return audienceNotAllowed
	}
	if p.subjects != nil && !p.subjects.Match(t.sub) {
		return verificationFails
	}
	if p.requireExpiration || p.maxLifetime > 0 {
		if t.exp == 0 {
			return verificationFails
		}
		if p.maxLifetime > 0 && float64(t.exp)-float64(now.Unix()) > p.maxLifetime.Seconds() {
			return verificationFails
		}
	}
	return statusOK
}

// apply does what the provider wants to be done with a good token.
func (p *provider) apply(s *filter.Stream, t *token, at *place) (reroute bool) {
	m := &s.Request
	if p.forwardPayload != "" {
		v := t.encodedPayload
		if p.padPayload {
			v += strings.Repeat("=", (4-len(v)%4)%4)
		}
		m.Add(p.forwardPayload, v)
	}
	added := false
	for i := range p.claims {
		if v, ok := t.claim(p.claims[i].path); ok {
			if text := claimText(v); text != "" {
				m.Add(p.claims[i].header, text)
				added = true
			}
		}
	}
	if !p.forward {
		at.remove(s)
	}
	return p.clearRoute && (added || p.payloadIn != "")
}

// claimText is how a claim is written into a header; "" is not at all.
func claimText(v any) string {
	switch v := v.(type) {
	case string:
		for i := range len(v) {
			if v[i] < ' ' || v[i] == 0x7f {
				return "" // it would end the header
			}
		}
		return v
	case bool:
		return strconv.FormatBool(v)
	case float64:
		if v >= 0 && v < math.MaxUint64 && v == math.Trunc(v) {
			return strconv.FormatUint(uint64(v), 10)
		}
		return strconv.FormatFloat(v, 'f', 6, 64)
	case map[string]any, []any:
		b, err := json.Marshal(v)
		if err != nil {
			return ""
		}
		return base64.StdEncoding.EncodeToString(b)
	}
	return ""
}

// metadata is what goes into dynamic metadata of a good token.
func (p *provider) metadata(t *token, set func(key string, v any)) {
	if p.headerIn != "" {
		set(p.headerIn, t.header)
	}
	if p.payloadIn != "" {
		set(p.payloadIn, p.normalized(t.payload))
	}
}

// normalized turns claims that are lists with spaces into lists.
func (p *provider) normalized(payload map[string]any) map[string]any {
	if len(p.splitClaims) == 0 {
		return payload
	}
	out := make(map[string]any, len(payload))
	for k, v := range payload {
		out[k] = v
	}
	for _, name := range p.splitClaims {
		if text, ok := payload[name].(string); ok {
			list := []any{}
			for _, word := range strings.Fields(text) {
				list = append(list, word)
			}
			out[name] = list
		}
	}
	return out
}
