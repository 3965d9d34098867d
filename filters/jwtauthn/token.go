package jwtauthn

import (
	"encoding/base64"
	"encoding/json"
	"math"
	"strings"
	"time"
)

// token is a JSON Web Token (RFC 7519) in compact form, read but not verified. It is
// immutable, and has memory of its own.
type token struct {
	raw            string
	header         map[string]any
	payload        map[string]any
	encodedPayload string
	alg, kid       string
	iss, sub       string
	aud            []string
	nbf, exp       uint64 // 0: none
}

// parseToken reads a token. The algorithms are those of Envoy; "none" is none of them.
func parseToken(raw string) (*token, status) {
	raw = strings.Clone(raw)
	head, rest, ok := strings.Cut(raw, ".")
	payload, signature, ok2 := strings.Cut(rest, ".")
	if !ok || !ok2 || strings.Contains(signature, ".") || head == "" || payload == "" || signature == "" {
		return nil, badFormat
	}
	t := &token{raw: raw, encodedPayload: payload}
	if st := decodeObject(head, &t.header, headerBadBase64, headerBadJSON); st != statusOK {
		return nil, st
	}
	if st := t.readHeader(); st != statusOK {
		return nil, st
	}
	if st := decodeObject(payload, &t.payload, payloadBadBase64, payloadBadJSON); st != statusOK {
		return nil, st
	}
	if st := t.readPayload(); st != statusOK {
		return nil, st
	}
	if b, err := decodeBase64(signature); err != nil || len(b) == 0 {
		return nil, signatureBadBase64
	}
	return t, statusOK
}

func decodeBase64(s string) ([]byte, error) {
	return base64.RawURLEncoding.DecodeString(strings.TrimRight(s, "="))
}

func decodeObject(s string, to *map[string]any, badBase64, badJSON status) status {
	b, err := decodeBase64(s)
	if err != nil || len(b) == 0 {
		return badBase64
	}
	if json.Unmarshal(b, to) != nil || *to == nil {
		return badJSON
	}
	return statusOK
}

func (t *token) readHeader() status {
	var ok bool
	if t.alg, ok = t.header["alg"].(string); !ok {
		return headerBadAlg
	}
	if _, ok = families[t.alg]; !ok {
		return headerUnknownAlg
	}
	if kid, there := t.header["kid"]; there {
		if t.kid, ok = kid.(string); !ok {
			return headerBadKid
		}
	}
	return statusOK
}

func (t *token) readPayload() status {
	if st := t.text("iss", &t.iss, issNotString); st != statusOK {
		return st
	}
	if st := t.text("sub", &t.sub, subNotString); st != statusOK {
		return st
	}
	var iat uint64
	for _, n := range []struct {
		name              string
		to                *uint64
		noInteger, beyond status
	}{{"iat", &iat, iatNotInteger, iatOutOfRange}, {"nbf", &t.nbf, nbfNotInteger, nbfOutOfRange}, {"exp", &t.exp, expNotInteger, expOutOfRange}} {
		v, there := t.payload[n.name]
		if !there {
			continue
		}
		f, ok := v.(float64)
		if !ok {
			return n.noInteger
		}
		if f < 0 || f >= math.MaxUint64 {
			return n.beyond
		}
		*n.to = uint64(f)
	}
	var id string
	if st := t.text("jti", &id, jtiNotString); st != statusOK {
		return st
	}
	return t.readAudiences()
}

func (t *token) text(name string, to *string, wrong status) status {
	v, there := t.payload[name]
	if !there {
		return statusOK
	}
	var ok bool
	if *to, ok = v.(string); !ok {
		return wrong
	}
	return statusOK
}

func (t *token) readAudiences() status {
	switch v := t.payload["aud"].(type) {
	case nil:
		if _, there := t.payload["aud"]; there {
			return audNotString
		}
	case string:
		t.aud = []string{v}
	case []any:
		for _, e := range v {
			s, ok := e.(string)
			if !ok {
				return audNotString
			}
			t.aud = append(t.aud, s)
		}
	default:
		return audNotString
	}
	return statusOK
}

// inTime checks nbf and exp.
func (t *token) inTime(now time.Time, skew time.Duration) status {
	at, leeway := uint64(max(now.Unix(), 0)), uint64(skew/time.Second)
	switch {
	case t.nbf > at+leeway:
		return notYetValid
	case t.exp != 0 && at > t.exp && at-t.exp > leeway:
		return expired
	}
	return statusOK
}

// claim returns a claim by its path.
func (t *token) claim(path []string) (any, bool) {
	var v any = t.payload
	for _, key := range path {
		fields, ok := v.(map[string]any)
		if !ok {
			return nil, false
		}
		if v, ok = fields[key]; !ok {
			return nil, false
		}
	}
	return v, true
}

// audiences are those of a requirement or provider, as they are compared.
type audiences map[string]struct{}

func newAudiences(list []string) audiences {
	if len(list) == 0 {
		return nil
	}
	out := audiences{}
	for _, a := range list {
		out[plainAudience(a)] = struct{}{}
	}
	return out
}

// plainAudience leaves out what two spellings of a service's address differ in.
func plainAudience(a string) string {
	for _, scheme := range []string{"https://", "http://"} {
		if rest, ok := strings.CutPrefix(a, scheme); ok {
			a = rest
			break
		}
	}
	return strings.TrimSuffix(a, "/")
}

// allow reports whether one of a token's audiences is among them; nil allows all.
func (l audiences) allow(aud []string) bool {
	if l == nil {
		return true
	}
	for _, a := range aud {
		if _, ok := l[plainAudience(a)]; ok {
			return true
		}
	}
	return false
}
