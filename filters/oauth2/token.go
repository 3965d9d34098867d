package oauth2

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/filter/call"
	"github.com/mecha-mesh/mecha/proxy/header"
)

// auth is how the filter tells the token endpoint who it is (RFC 6749 section 2.3).
type auth uint8

const (
	inBody     auth = iota // client_id and client_secret
	basic                  // HTTP basic authentication
	tlsClient              // the certificate of the connection (RFC 8705)
	privateKey             // a signed assertion (RFC 7523)
)

// grant is what is exchanged for tokens: a code, or else a refresh token. A code and the
// redirect are as they were in the query.
type grant struct {
	code, redirect, verifier string
	refresh                  string
}

// answer is what the token endpoint gave (RFC 6749 section 5.1).
type answer struct {
	access, id, refresh string
	lasts               time.Duration
}

// failure is why there are no tokens. Nothing of it comes from the endpoint.
type failure struct {
	reason, extra string
	refused       bool // there was no good answer at all
}

func (f *failure) text() string {
	if f.extra == "" {
		return f.reason
	}
	return f.reason + ": " + f.extra
}

// longest bounds how long tokens live.
const longest = 100 * 365 * 24 * time.Hour

// exchange asks the token endpoint. err is the end of the stream that waits.
func (f *Filter) exchange(s *filter.Stream, g grant) (got *answer, fail *failure, err error) {
	q := &call.Request{Cluster: f.set.Token.Cluster, Timeout: f.set.Token.Timeout}
	m := &q.Header
	m.AddID(header.Method, http.MethodPost)
	m.AddID(header.Path, f.set.Token.Path)
	m.AddID(header.Authority, f.set.Token.Authority)
	m.AddID(header.ContentType, "application/x-www-form-urlencoded")
	m.AddID(header.Accept, "application/json")
	form, fail := f.form(&g)
	if fail != nil {
		return nil, fail, nil
	}
	if f.set.Auth == basic {
		m.Add("authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte(f.set.ClientID+":"+string(f.secret))))
	}
	m.SetInt(header.ContentLength, int64(len(form)))
	q.Body.Append([]byte(form))
	var a call.Response
	if err := f.client.DoAgain(s.Engine, q, &a, f.set.Retries); err != nil {
		if over := call.Ended(err); over != nil {
			return nil, nil, over
		}
		return nil, unanswered(err), nil
	}
	if code := a.Code(); code != http.StatusOK {
		return nil, refused(code), nil
	}
	got, fail = f.read(a.Body)
	return got, fail, nil
}

// unanswered says why nobody has answered.
func unanswered(err error) *failure {
	if errors.Is(err, call.ErrNoCluster) {
		return &failure{reason: "Token endpoint cluster not found"}
	}
	if errors.Is(err, call.ErrTooLarge) {
		return &failure{reason: "Failed to get access token due to HTTP request failure", refused: true}
	}
	if errors.Is(err, call.ErrTimeout) {
		return refused(http.StatusGatewayTimeout)
	}
	return refused(http.StatusServiceUnavailable)
}

// refused is an answer that is none: to Envoy, no answer is one of its own, with a code.
func refused(code int) *failure {
	return &failure{"Failed to get access token", "response code: " + strconv.Itoa(code), true}
}

// inForm are the bytes that Envoy leaves as they are in a form, beyond what a URL leaves.
const inForm = "%"

// form is the body of a request for tokens (RFC 6749 sections 4.1.3 and 6).
func (f *Filter) form(g *grant) (string, *failure) {
	var b strings.Builder
	if g.refresh != "" {
		b.WriteString("grant_type=refresh_token&refresh_token=" + escape(g.refresh, inForm))
	} else {
		b.WriteString("grant_type=authorization_code&code=" + g.code)
	}
	switch id := escape(f.set.ClientID, inForm); f.set.Auth {
	case inBody:
		b.WriteString("&client_id=" + id + "&client_secret=" + escape(string(f.secret), inForm))
	case tlsClient:
		b.WriteString("&client_id=" + id)
	case privateKey:
		jwt, err := f.assertion()
		if err != nil {
			return "", &failure{reason: "Failed to create client assertion"}
		}
		b.WriteString("&client_id=" + id + "&client_assertion_type=urn%3Aietf%3Aparams%3Aoauth%3Aclient-assertion-type%3Ajwt-bearer&client_assertion=" + jwt)
	}
	if g.refresh == "" {
		b.WriteString("&redirect_uri=" + escape(g.redirect, inForm) + "&code_verifier=" + escape(g.verifier, ""))
	}
	return b.String(), nil
}

// read reads an answer with tokens.
func (f *Filter) read(body []byte) (*answer, *failure) {
	var raw struct {
		Access  *string         `json:"access_token"`
		ID      *string         `json:"id_token"`
		Refresh *string         `json:"refresh_token"`
		Expires json.RawMessage `json:"expires_in"`
	}
	malformed := &failure{reason: "Failed to parse oauth response body"}
	if json.Unmarshal(body, &raw) != nil {
		return nil, malformed
	}
	if raw.Access == nil {
		return nil, &failure{reason: "No access token found in the token exchange response"}
	}
	a := &answer{access: *raw.Access, lasts: f.set.ExpiresIn}
	for _, t := range []struct {
		to   *string
		from *string
	}{{&a.id, raw.ID}, {&a.refresh, raw.Refresh}} {
		if t.from != nil {
			*t.to = *t.from
		}
	}
	if len(raw.Expires) > 0 && string(raw.Expires) != "null" {
		n, ok := seconds(raw.Expires)
		if !ok {
			return nil, malformed
		}
		a.lasts = n
	}
	if a.lasts <= 0 {
		return nil, &failure{reason: "No default or explicit access token expiration found in the token exchange response"}
	}
	for _, t := range []string{a.access, a.id, a.refresh} {
		if !headerValue(t) {
			return nil, malformed // it could not be forwarded, nor kept
		}
	}
	return a, nil
}

// seconds reads expires_in: a number, also one in quotes.
func seconds(raw json.RawMessage) (time.Duration, bool) {
	text := strings.Trim(string(raw), `"`)
	n, err := strconv.ParseFloat(text, 64)
	if err != nil || n != n || n < 0 || n != float64(uint64(min(n, 1<<53))) && n < 1<<53 {
		return 0, false
	}
	return time.Duration(min(n, longest.Seconds())) * time.Second, true
}

// refresh renews the access token with a refresh token, so that the request goes on with
// the new one.
func (f *Filter) refresh(s *filter.Stream, token string) error {
	got, fail, err := f.exchange(s, grant{refresh: token})
	switch {
	case err != nil:
		return err
	case fail != nil && fail.refused:
		f.counters.RefreshFails.Inc()
		return f.turnAway(s, "Failed to refresh the access token, and forwarding as unauthorized because OAuth failure is allowed",
			"Failed to refresh the access token, and redirecting to OAuth server is not allowed")
	case fail != nil && f.set.AllowFailed.Any(&s.Request):
		f.letThrough(s, fail.reason)
		return nil
	case fail != nil:
		return f.refuse(fail.text())
	}
	f.keep(got)
	if f.fresh.value[refreshToken] == "" {
		f.fresh.value[refreshToken] = token
	}
	cookies, ok := f.session(&s.Request)
	if !ok {
		return f.unavailable("OAuth token exceeds the cookie chunk limit")
	}
	for _, kind := range tokenKinds {
		if v := f.fresh.value[kind]; v != "" {
			f.jar.set(f.set.Cookies[kind].name, v)
		}
	}
	f.renewed = cookies
	f.counters.Refreshed.Inc()
	f.counters.Success.Inc()
	s.Decide("has its session renewed", "")
	f.proceed(&s.Request)
	return nil
}

// expiryOf returns for how long a JSON Web Token is still good; ok tells that it says so.
func expiryOf(token string, now time.Time) (left time.Duration, ok bool) {
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return 0, false
	}
	var head struct {
		Algorithm string `json:"alg"`
	}
	var claims struct {
		Exp json.Number `json:"exp"`
	}
	if !readPart(parts[0], &head) || !slices.Contains(algorithms, head.Algorithm) || !readPart(parts[1], &claims) {
		return 0, false
	}
	n, err := strconv.ParseFloat(claims.Exp.String(), 64)
	if err != nil || n <= 0 {
		return 0, false
	}
	s := min(n, float64(now.Unix())+longest.Seconds()) - float64(now.Unix())
	return time.Duration(max(s, 0)) * time.Second, true
}

// algorithms are those of tokens whose exp is believed, as far as cookies go.
var algorithms = []string{
	"ES256", "ES384", "ES512", "HS256", "HS384", "HS512", "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "EdDSA",
}

// readPart reads a part of a JSON Web Token.
func readPart(text string, into any) bool {
	raw, err := base64.RawURLEncoding.DecodeString(text)
	return err == nil && json.Unmarshal(raw, into) == nil
}

// inSeconds is a duration as Max-Age has it.
func inSeconds(d time.Duration) string { return fmt.Sprint(int64(d / time.Second)) }
