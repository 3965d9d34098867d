// Package oauth2 is the HTTP filter oauth2: who has no session is sent to an authorization
// server (OAuth 2.0, RFC 6749, the authorization code flow with PKCE, RFC 7636), and what
// that says of them is kept in cookies, signed and encrypted. Cookies are Envoy's, so that a
// session may go on at either.
//
// What happens to a request is in this file, the way there and back in login.go, what
// cookies say in session.go, how they are written in setcookie.go, the token endpoint in
// token.go. Tokens and secrets are in no log, no details and no decision.
package oauth2

import (
	"crypto/sha256"
	"strings"
	"sync"

	"github.com/mecha-mesh/mecha/proxy/accesslog"
	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/filter/call"
	"github.com/mecha-mesh/mecha/proxy/header"
	"github.com/mecha-mesh/mecha/proxy/match"
	"github.com/mecha-mesh/mecha/proxy/runtime"
	"github.com/mecha-mesh/mecha/proxy/stats"
)

// Spec describes the filter.
var Spec = filter.HTTPSpec[*Config]{
	Name:       "envoy.filters.http.oauth2",
	Type:       "envoy.extensions.filters.http.oauth2.v3.OAuth2",
	RouteType:  "envoy.extensions.filters.http.oauth2.v3.OAuth2PerRoute",
	Parse:      parse,
	ParseRoute: parseRoute,
	New:        newFactory,
}

// Fields that tell upstream of a request that was let through without a session.
const (
	statusField  = "x-envoy-oauth-status"
	failureField = "x-envoy-oauth-failure-reason"
)

// counters is http.<stat_prefix>.[<stat_prefix>.]*.
type counters struct {
	AllowFailed  stats.Counter `stat:"oauth_allow_failed_passthrough" help:"requests let through without a session (allow_failed_matcher)"`
	Failure      stats.Counter `stat:"oauth_failure" help:"requests answered with 401, or with 503 for want of a secret or of room in cookies"`
	LegacyCBC    stats.Counter `stat:"oauth_legacy_cbc_decrypt" help:"cookies that were encrypted with AES-256-CBC"`
	PassThrough  stats.Counter `stat:"oauth_passthrough" help:"requests that are none of the filter's business (pass_through_matcher)"`
	RefreshFails stats.Counter `stat:"oauth_refreshtoken_failure" help:"access tokens that could not be renewed"`
	Refreshed    stats.Counter `stat:"oauth_refreshtoken_success" help:"access tokens renewed with a refresh token"`
	Success      stats.Counter `stat:"oauth_success" help:"requests with a session, and sessions begun"`
	Chunked      stats.Counter `stat:"oauth_token_cookie_chunked" help:"tokens written in several cookies"`
	Malformed    stats.Counter `stat:"oauth_token_cookie_malformed_chunks" help:"tokens in several cookies of which some were missing or wrong"`
	Oversized    stats.Counter `stat:"oauth_token_cookie_oversized" help:"tokens too large for as many cookies as there may be"`
	Reassembled  stats.Counter `stat:"oauth_token_cookie_reassembled" help:"tokens read from several cookies"`
	Redirected   stats.Counter `stat:"oauth_unauthorized_rq" help:"requests sent to the authorization server"`
}

// shared is what all streams of one chain have in common.
type shared struct {
	config   *Config
	slot     filter.Slot
	own      *counters
	ofRoutes func(prefix string) *counters
	client   *call.Client
	useGCM   runtime.FlagValue
	openCBC  runtime.FlagValue
}

func newFactory(c *Config, env filter.Env) (func() filter.HTTP, error) {
	sh := &shared{
		config: c, slot: env.Slot, client: call.NewClient(env.Clusters), ofRoutes: routeCounters(env),
		useGCM:  runtime.FlagSetting{Key: "envoy.reloadable_features.oauth2_use_gcm_encryption"}.On(env.Runtime),
		openCBC: runtime.FlagSetting{Key: "envoy.reloadable_features.oauth2_legacy_cbc_decrypt_compat", Default: true}.On(env.Runtime),
	}
	if c.settings != nil {
		k, release := stats.SharedUnder[counters](env.Parent, prefixPath(c.settings.StatPrefix)...)
		env.OnRetire(release)
		sh.own = k
	}
	return func() filter.HTTP { return &Filter{shared: sh} }, nil
}

// prefixPath is a stat_prefix as a path, with or without a dot at its end.
func prefixPath(prefix string) []stats.Label {
	return stats.Path(strings.Split(strings.TrimSuffix(prefix, "."), ".")...)
}

// routeCounters returns the counters of routes with configurations of their own, by
// stat_prefix: they are not under the connection manager.
func routeCounters(env filter.Env) func(prefix string) *counters {
	var mu sync.Mutex // guards both
	all := map[string]*counters{}
	var releases []func()
	env.OnRetire(func() {
		mu.Lock()
		defer mu.Unlock()
		for _, release := range releases {
			release()
		}
	})
	return func(prefix string) *counters {
		mu.Lock()
		defer mu.Unlock()
		k := all[prefix]
		if k == nil {
			var release func()
			k, release = stats.SharedAt[counters](env.Stats, prefixPath(prefix)...)
			releases = append(releases, release)
			all[prefix] = k
		}
		return k
	}
}

// Filter serves one stream at a time.
type Filter struct {
	*shared
	set      *settings // in effect
	counters *counters // of set
	secret   []byte    // for the token endpoint, lent
	key      []byte    // of HMACs, lent
	keyID    string    // of secret, for an assertion
	sealer   sealer
	jar      jar
	had      [cookieKinds]had
	flowID   string // whose cookies a reply deletes
	fresh    tokens // that the token endpoint gave
	// renewed is what the response is to set (Set-Cookie).
	renewed []string
}

var (
	_ filter.RequestHeaders  = (*Filter)(nil)
	_ filter.ResponseHeaders = (*Filter)(nil)
)

// Reset implements filter.HTTP.
func (f *Filter) Reset() {
	f.set, f.counters, f.secret, f.key, f.keyID = nil, nil, nil, nil, ""
	f.sealer = sealer{}
	f.jar.clear()
	f.had, f.flowID, f.fresh, f.renewed = [cookieKinds]had{}, "", tokens{}, nil
}

// OnRequestHeaders implements filter.RequestHeaders.
func (f *Filter) OnRequestHeaders(s *filter.Stream, _ bool) error {
	m := &s.Request
	m.Del(statusField)
	m.Del(failureField)
	if f.set, f.counters = f.inEffect(s); f.set == nil {
		return nil
	}
	if f.set.IDHeader != "" {
		m.Del(f.set.IDHeader)
	}
	if f.set.PassThrough.Any(m) {
		f.counters.PassThrough.Inc()
		s.Decide("is passed through", "pass_through_matcher")
		return nil
	}
	if !f.unlock() {
		return f.unavailable("OAuth2 secrets are not ready")
	}
	path, ok := m.Find(":path")
	if !ok {
		return &filter.Reply{Code: 400, Details: "oauth_missing_path"}
	}
	f.open(m)
	back := f.set.RedirectPath.match(path)
	switch {
	case f.set.SignoutPath.match(path):
		return f.signOut(s)
	case f.valid(m):
		f.counters.Success.Inc()
		if back {
			return f.again(s, path)
		}
		s.Decide("has a session", "")
		f.proceed(m)
		return nil
	case back:
		return f.callback(s, path)
	}
	if token := f.jar.value(f.set.Cookies[refreshToken].name); token != "" && f.set.UseRefresh {
		return f.refresh(s, token)
	}
	return f.turnAway(s, "Unauthorized, and forwarding as unauthorized because OAuth failure is allowed: "+path,
		"Unauthorized, and redirecting to OAuth server is not allowed: "+path)
}

// OnResponseHeaders implements filter.ResponseHeaders.
func (f *Filter) OnResponseHeaders(s *filter.Stream, _ bool) error {
	for _, c := range f.renewed {
		s.Response.AddID(header.SetCookie, c)
	}
	f.renewed = nil
	return nil
}

// inEffect returns what the route says, or else the filter, and its counters; nil: nothing.
func (f *Filter) inEffect(s *filter.Stream) (*settings, *counters) {
	own, ok := filter.Override[*Config](s, f.slot)
	switch {
	case !ok || own.settings == nil:
		return f.config.settings, f.own
	default:
		return own.settings, f.ofRoutes(own.settings.StatPrefix)
	}
}

// unlock takes the secrets of now, and reports whether they are there.
func (f *Filter) unlock() bool {
	key := f.set.HMACSecret.Current()
	if key == nil || len(key.Secret()) == 0 {
		return false
	}
	f.key = key.Secret()
	f.sealer = sealer{key: sha256.Sum256(f.key), gcm: f.useGCM.Get(), cbc: f.openCBC.Get()}
	if f.set.Auth == tlsClient {
		return true
	}
	t := f.set.TokenSecret.Current()
	if t == nil {
		return false
	}
	if f.secret = t.Secret(); f.set.Auth == privateKey && len(f.secret) == 0 {
		f.secret, f.keyID = t.Named("private_key"), string(t.Named("key_id"))
	}
	return len(f.secret) > 0
}

// open reads the cookies, opens the tokens in them, and removes the authorization that the
// client has brought.
func (f *Filter) open(m *header.Map) {
	f.jar.fill(m)
	for _, kind := range tokenKinds {
		name := f.set.Cookies[kind].name
		f.join(kind)
		v := f.jar.value(name)
		if v == "" || f.set.Plain {
			continue
		}
		// What does not open is not ours, or of another key: then the HMAC does not hold either.
		if text, legacy, err := f.sealer.open(v); err == nil && headerValue(text) {
			if legacy {
				f.counters.LegacyCBC.Inc()
			}
			f.jar.set(name, text)
		}
	}
	if !f.set.Preserve {
		m.Del("authorization")
	}
}

// proceed makes the request what upstream may see of a session.
func (f *Filter) proceed(m *header.Map) {
	if token := f.jar.value(f.set.Cookies[bearerToken].name); f.set.ForwardBearer && token != "" {
		m.Set("authorization", m.Concat("Bearer ", token))
	}
	if token := f.jar.value(f.set.Cookies[idToken].name); f.set.IDHeader != "" && token != "" {
		if f.set.IDHeader == "authorization" {
			token = m.Concat("Bearer ", token)
		}
		m.Set(f.set.IDHeader, token)
	}
	f.jar.drop(f.set.ofFlow)
	f.jar.write(m)
}

// turnAway lets a request without a session through if it may go on without, refuses it if
// nobody is to be sent away, or else sends its client to the authorization server.
func (f *Filter) turnAway(s *filter.Stream, allowed, denied string) error {
	switch {
	case f.set.AllowFailed.Any(&s.Request):
		f.letThrough(s, allowed)
		return nil
	case f.set.DenyRedirect.Any(&s.Request):
		return f.refuse(denied)
	}
	return f.login(s)
}

// letThrough makes a request one without a session, and tells upstream why.
func (f *Filter) letThrough(s *filter.Stream, reason string) {
	f.jar.drop(func(name string) bool { return f.set.ofFlow(name) || f.set.ofTokens(name) })
	f.jar.write(&s.Request)
	s.Request.Set(statusField, "failed")
	s.Request.Set(failureField, reason)
	f.counters.AllowFailed.Inc()
	s.Decide("is let through without a session", "allow_failed_matcher")
}

// refuse answers 401. The details must not contain what cookies or the authorization
// server say.
func (f *Filter) refuse(details string) error {
	f.counters.Failure.Inc()
	r := &filter.Reply{Code: 401, Body: "OAuth flow failed.", Details: sanitized(details)}
	if f.flowID != "" {
		r.Header = cookieFields(f.set.endFlow(f.flowID))
	}
	return r
}

// unavailable answers 503.
func (f *Filter) unavailable(details string) error {
	f.counters.Failure.Inc()
	return &filter.Reply{Code: 503, Body: "Service Unavailable", Details: sanitized(details)}
}

// sanitized is a text as details are written: without blanks.
func sanitized(text string) string {
	return strings.Map(func(r rune) rune {
		if r == ' ' || '\t' <= r && r <= '\r' {
			return '_'
		}
		return r
	}, text)
}

// formatted is the text of a format for a request.
func formatted(s *filter.Stream, f *accesslog.Format) string {
	return string(f.Append(nil, s.LogEntry()))
}

// pathMatcher is a PathMatcher: of a path without its query and fragment.
type pathMatcher struct{ text match.String }

func (p *pathMatcher) match(path string) bool {
	path, _, _ = strings.Cut(match.WithoutQuery(path), "#")
	return p.text.Match(path)
}
