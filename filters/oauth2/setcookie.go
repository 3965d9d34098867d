package oauth2

import (
	"strings"

	"github.com/mecha-mesh/mecha/proxy/header"
)

// cookieSpec is how a cookie is written.
type cookieSpec struct {
	name, path, domain string
	attributes         string // after Max-Age
}

// set is Set-Cookie for a cookie of a name that begins with that of the spec.
func (c *cookieSpec) set(name, value, seconds string) string {
	var b strings.Builder
	b.WriteString(name + "=" + value)
	if c.domain != "" {
		b.WriteString(";domain=" + c.domain)
	}
	b.WriteString(";path=" + c.path + ";Max-Age=" + seconds + ";secure;HttpOnly" + c.attributes)
	return b.String()
}

// delete is Set-Cookie that makes a browser forget a cookie. Those of some names are only
// touched by what says Secure (RFC 6265bis section 4.1.3).
func (c *cookieSpec) delete(name string) string {
	text := name + "=deleted; path=" + c.path + "; expires=Thu, 01 Jan 1970 00:00:00 GMT"
	if c.domain != "" {
		text += ";domain=" + c.domain
	}
	if strings.HasPrefix(name, "__Secure-") || strings.HasPrefix(name, "__Host-") {
		text += "; Secure"
	}
	return text
}

// beginFlow are the cookies of a flow, under a name of its own and, for proxies that do not
// know those, under the plain one.
func (c *settings) beginFlow(w *flow, sealed string) []string {
	n, v := &c.Cookies[nonce], &c.Cookies[verifier]
	csrf, proof := inSeconds(c.CSRFExpiresIn), inSeconds(c.VerifierExpiresIn)
	return []string{
		n.set(n.name+"."+w.id, w.token, csrf), n.set(n.name, w.token, csrf),
		v.set(v.name+"."+w.id, sealed, proof), v.set(v.name, sealed, proof),
	}
}

// endFlow deletes the cookies of a flow.
func (c *settings) endFlow(id string) (out []string) {
	for _, kind := range [...]cookieKind{nonce, verifier} {
		spec := &c.Cookies[kind]
		if id != "" {
			out = append(out, spec.delete(spec.name+"."+id))
		}
		out = append(out, spec.delete(spec.name))
	}
	return out
}

// deleteAll deletes the cookies of a session, and those of flows that the client has.
func (f *Filter) deleteAll() (out []string) {
	c := f.set
	for _, kind := range [...]cookieKind{oauthHMAC, bearerToken, idToken, refreshToken, oauthExpires} {
		out = append(out, c.Cookies[kind].delete(c.Cookies[kind].name))
	}
	for _, kind := range tokenKinds {
		out = append(out, c.Cookies[kind].deleteChunks(f.had[kind].chunks)...)
	}
	for i := range f.jar.items {
		for _, kind := range [...]cookieKind{nonce, verifier} {
			if spec := &c.Cookies[kind]; spec.matches(f.jar.items[i].name) {
				out = append(out, spec.delete(f.jar.items[i].name))
			}
		}
	}
	return out
}

// session are the cookies of a session that begins, or goes on with other tokens; ok is
// false if a token is too large for them.
func (f *Filter) session(m *header.Map) (out []string, ok bool) {
	c, t := f.set, &f.fresh
	lasts := inSeconds(t.lasts[oauthHMAC])
	text := c.signedText(m, t.expires, t.value[bearerToken], t.value[idToken], t.value[refreshToken])
	out = append(out,
		c.Cookies[oauthHMAC].set(c.Cookies[oauthHMAC].name, signature(f.key, text), lasts),
		c.Cookies[oauthExpires].set(c.Cookies[oauthExpires].name, t.expires, lasts))
	split := uint64(0)
	for _, kind := range tokenKinds {
		one, n, ok := f.write(kind, t.value[kind], inSeconds(t.lasts[kind]))
		if !ok {
			return nil, false
		}
		if n > 0 {
			split++
		}
		out = append(out, one...)
	}
	f.counters.Chunked.Add(split)
	return out, true
}
