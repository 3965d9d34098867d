package oauth2

import (
	"cmp"
	"crypto/sha256"
	"slices"
	"strings"

	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/header"
)

// login sends a client to the authorization server (RFC 6749 section 4.1.1).
func (f *Filter) login(s *filter.Stream) error {
	base := origin(&s.Request)
	if f.set.OriginalURI != nil {
		base = formatted(s, f.set.OriginalURI)
	}
	if !allowedHost(base, f.set.Domains) {
		return f.refuse("authority or original_request_uri failed domain allow-list validation: " + base)
	}
	to := formatted(s, f.set.RedirectURI)
	if !allowedHost(to, f.set.Domains) {
		return f.refuse("redirect_uri failed domain allow-list validation: " + to)
	}
	w := newFlow(f.key)
	challenge := sha256.Sum256([]byte(w.verifier))
	r := redirect(f.set.authorization(
		param{"state", w.stateOf(base + s.Request.Value(header.Path))}, param{"redirect_uri", escape(to, "")},
		param{"code_challenge", encode(challenge[:])}, param{"code_challenge_method", "S256"},
	), "oauth.missing_credentials", f.set.beginFlow(&w, f.sealer.seal(w.verifier)))
	f.counters.Redirected.Inc()
	s.Decide("is sent to the authorization server", "")
	return r
}

// origin is scheme and host of a request.
func origin(m *header.Map) string {
	scheme := "https"
	if strings.EqualFold(m.Value(header.Scheme), "http") {
		scheme = "http"
	}
	return scheme + "://" + m.Value(header.Authority)
}

// authorization is the URL of the authorization endpoint with parameters in place of its
// own of the same names, sorted.
func (c *settings) authorization(over ...param) string {
	all := slices.DeleteFunc(slices.Clone(c.Endpoint.params), func(p param) bool {
		_, replaced := first(over, p.name)
		return replaced
	})
	all = append(all, over...)
	slices.SortStableFunc(all, func(a, b param) int { return cmp.Compare(a.name, b.name) })
	var b strings.Builder
	b.WriteString(c.Endpoint.url)
	for i, p := range all {
		b.WriteByte("?&"[min(i, 1)])
		b.WriteString(p.name + "=" + p.value)
	}
	return b.String() + c.Resources
}

// redirect is an answer that sends a client somewhere and sets cookies.
func redirect(to, details string, cookies []string) *filter.Reply {
	r := &filter.Reply{Code: 302, Details: details, Verbatim: true}
	r.Header = append(cookieFields(cookies), header.Field{Name: "location", Value: to})
	return r
}

func cookieFields(cookies []string) (out []header.Field) {
	for _, c := range cookies {
		out = append(out, header.Field{Name: "set-cookie", Value: c})
	}
	return out
}

// again answers a request that comes back from the authorization server with a session
// that has begun meanwhile: a page asks for many things at once, and each of them is sent
// there.
func (f *Filter) again(s *filter.Stream, path string) error {
	back, err := f.check(path)
	if err != nil {
		return err
	}
	if u, ok := parseURL(back.url); ok && f.set.RedirectPath.match(u.path) {
		return f.refuse("State url query params matches the redirect path matcher: " + u.path)
	}
	s.Decide("has a session already", "")
	return redirect(back.url, "oauth.race_redirect", f.set.endFlow(f.flowID))
}

// callback is a request that comes from the authorization server (RFC 6749 section 4.1.2):
// its code is exchanged for tokens.
func (f *Filter) callback(s *filter.Stream, path string) error {
	back, err := f.check(path)
	if err != nil {
		return err
	}
	sealed := f.suffixed(verifier, f.flowID)
	if sealed == "" {
		return f.refuse("Code verifier cookie is missing in the request")
	}
	proof, legacy, err := f.sealer.open(sealed)
	if err != nil {
		return f.refuse("Failed to decrypt code verifier: " + err.Error())
	}
	if legacy {
		f.counters.LegacyCBC.Inc()
	}
	got, fail, err := f.exchange(s, grant{code: back.code, redirect: formatted(s, f.set.RedirectURI), verifier: proof})
	switch {
	case err != nil:
		return err
	case fail != nil:
		return f.refuse(fail.text())
	}
	f.keep(got)
	cookies, ok := f.session(&s.Request)
	if !ok {
		return f.unavailable("OAuth token exceeds the cookie chunk limit")
	}
	f.counters.Success.Inc()
	s.Decide("begins a session", "")
	return redirect(back.url, "oauth.logged_in", append(cookies, f.set.endFlow(f.flowID)...))
}

// cameBack is what a request from the authorization server says, believed.
type cameBack struct{ url, code string }

// check checks a request from the authorization server: what it says belongs to a flow
// that this client has begun. An error is the answer.
func (f *Filter) check(path string) (b cameBack, answer error) {
	query := parseQuery(path)
	state, hasState := first(query, "state")
	if e, failed := first(query, "error"); failed {
		if hasState {
			_ = f.believe(state, &b) // for its cookies: they are deleted
		}
		return b, f.refuse("OAuth server returned an error: " + e)
	}
	code, hasCode := first(query, "code")
	if !hasCode || !hasState {
		return b, f.refuse("Code or state query param does not exist")
	}
	b.code = code
	if why := f.believe(state, &b); why != "" {
		return b, f.refuse(why)
	}
	return b, nil
}

// believe takes over what the parameter state says if a cookie of this client confirms
// it (RFC 6819 section 5.3.5); why says why not.
func (f *Filter) believe(state string, b *cameBack) (why string) {
	r, why := readState(state)
	if why != "" {
		return why
	}
	if c := f.suffixed(nonce, r.id); c == "" || !same(c, r.token) || !genuine(f.key, r.token) {
		return "CSRF token validation failed"
	}
	if f.flowID = r.id; !validFlowID(r.id) {
		f.flowID = ""
	}
	if _, ok := parseURL(r.url); !ok {
		return "State url can not be initialized"
	}
	if !allowedHost(r.url, f.set.Domains) {
		return "State url host is not in the allowed redirect domains"
	}
	b.url = r.url
	return ""
}

// validFlowID keeps out what would make another cookie of one.
func validFlowID(id string) bool {
	for i := range len(id) {
		if !isAlnum(id[i]) {
			return false
		}
	}
	return len(id) <= 64
}

// suffixed is the value of the cookie of a flow, or else that of a flow without an ID.
func (f *Filter) suffixed(kind cookieKind, id string) string {
	name := f.set.Cookies[kind].name
	if v := f.jar.value(name + "." + id); v != "" {
		return v
	}
	return f.jar.value(name)
}

// signOut deletes all cookies and sends the client away, to the authorization server if
// that is to know.
func (f *Filter) signOut(s *filter.Stream) error {
	home := s.Request.Value(header.Scheme) + "://" + s.Request.Value(header.Authority) + "/"
	to := home
	if f.set.EndSession != "" {
		to = f.set.EndSession + "?id_token_hint=" + escape(f.jar.value(f.set.Cookies[idToken].name), inQuery) +
			"&client_id=" + escape(f.set.ClientID, inQuery)
		if !f.set.NoPostLogout {
			if f.set.PostLogout != nil {
				home = formatted(s, f.set.PostLogout)
			}
			to += "&post_logout_redirect_uri=" + escape(home, "")
		}
	}
	s.Decide("signs out", "")
	return redirect(to, "oauth.sign_out", f.deleteAll())
}
