package oauth2

import (
	"strconv"
	"strings"
	"time"

	"github.com/mecha-mesh/mecha/proxy/header"
)

// cookieKind is one of the cookies of the filter.
type cookieKind uint8

const (
	bearerToken cookieKind = iota
	oauthHMAC
	oauthExpires
	idToken
	refreshToken
	nonce
	verifier
	cookieKinds
)

// tokenKinds are the cookies that hold tokens.
var tokenKinds = [...]cookieKind{bearerToken, idToken, refreshToken}

// ofFlow tells whether a cookie is the filter's own business, so that upstream does not see
// it: all but the access token and the ID token.
func (c *settings) ofFlow(name string) bool {
	for _, kind := range [...]cookieKind{oauthHMAC, oauthExpires, refreshToken} {
		if name == c.Cookies[kind].name {
			return true
		}
	}
	return c.Cookies[nonce].matches(name) || c.Cookies[verifier].matches(name)
}

// ofTokens tells whether a cookie holds a token.
func (c *settings) ofTokens(name string) bool {
	for _, kind := range tokenKinds {
		if name == c.Cookies[kind].name {
			return true
		}
	}
	return false
}

// matches tells whether a name is that of the cookie, or that of the cookie for a flow.
func (c *cookieSpec) matches(name string) bool {
	rest, ok := strings.CutPrefix(name, c.name)
	return ok && (rest == "" || len(rest) > 1 && rest[0] == '.')
}

// valid tells whether the cookies of a request are a session: signed here, or by who has
// the same key, and not over.
func (f *Filter) valid(m *header.Map) bool {
	mac := f.jar.value(f.set.Cookies[oauthHMAC].name)
	if mac == "" {
		return false
	}
	expires := f.jar.value(f.set.Cookies[oauthExpires].name)
	text := f.set.signedText(m, expires, f.jar.value(f.set.Cookies[bearerToken].name),
		f.jar.value(f.set.Cookies[idToken].name), f.jar.value(f.set.Cookies[refreshToken].name))
	if !signed(f.key, text, mac) {
		return false
	}
	at, err := strconv.ParseInt(expires, 10, 64)
	return err == nil && at > time.Now().Unix()
}

// signedText is what the cookie of the HMAC signs.
func (c *settings) signedText(m *header.Map, expires, access, id, refresh string) string {
	domain := c.Domain
	if domain == "" {
		domain = m.Value(header.Authority)
	}
	return strings.Join([]string{domain, expires, access, id, refresh}, "\n")
}

// tokens are what the token endpoint gave, as far as it is kept in cookies.
type tokens struct {
	value   [cookieKinds]string // by kind, "" for those that are not kept
	lasts   [cookieKinds]time.Duration
	expires string // when the session is over, in seconds since 1970
}

// keep decides what of an answer goes into cookies, and for how long.
func (f *Filter) keep(a *answer) {
	now := time.Now()
	t := &f.fresh
	*t = tokens{expires: strconv.FormatInt(now.Add(a.lasts).Unix(), 10)}
	for kind := range t.lasts {
		t.lasts[kind] = a.lasts
	}
	if !f.set.NoAccessCookie {
		t.value[bearerToken] = a.access
	}
	if !f.set.NoIDCookie {
		t.value[idToken] = a.id
	}
	if left, ok := expiryOf(a.id, now); ok && !f.set.IDAsAccess {
		t.lasts[idToken] = left
	}
	if !f.set.UseRefresh {
		return
	}
	if !f.set.NoRefreshCookie {
		t.value[refreshToken] = a.refresh
	}
	t.lasts[refreshToken] = f.set.RefreshExpiresIn
	if left, ok := expiryOf(a.refresh, now); ok {
		t.lasts[refreshToken] = left
	}
}
