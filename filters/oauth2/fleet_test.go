package oauth2_test

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/mecha-mesh/mecha/proxy/filter/filtertest/dialogue"
	"github.com/mecha-mesh/mecha/proxy/filter/filtertest/ports"
)

// fleet is what stands around proxies that share secrets: a host that tells what it was sent,
// and a token endpoint that checks the proof of a code (RFC 7636 section 4.6). A code is the
// challenge itself.
type fleet struct {
	t      *testing.T
	up     *httptest.Server
	tokens *httptest.Server
}

func newFleet(t *testing.T) *fleet {
	f := &fleet{t: t}
	f.up = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "%s|%s", r.Header.Get("authorization"), r.Header.Get("cookie"))
	}))
	f.tokens = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		form := func(name string) string { return r.FormValue(name) }
		if form("client_id") != "me" || form("client_secret") != "s3cret" {
			http.Error(w, "who is that", http.StatusUnauthorized)
			return
		}
		proof := sha256.Sum256([]byte(form("code_verifier")))
		proven := form("code") == base64.RawURLEncoding.EncodeToString(proof[:])
		if !proven && form("refresh_token") != "again" {
			http.Error(w, "what is that", http.StatusBadRequest)
			return
		}
		_ = json.NewEncoder(w).Encode(map[string]any{ // the proxy may have gone
			"access_token": "access-" + form("grant_type"), "refresh_token": "again", "expires_in": 3600,
			"id_token": strings.Repeat("i", 600),
		})
	}))
	t.Cleanup(f.up.Close)
	t.Cleanup(f.tokens.Close)
	return f
}

func portOf(s *httptest.Server) int { return s.Listener.Addr().(*net.TCPAddr).Port }

// config is a bootstrap, whose listener is at port.
func (f *fleet) config(port, admin int, gcm bool) []byte {
	typed := func(name string, fields map[string]any) map[string]any {
		fields["@type"] = "type.googleapis.com/" + name
		return fields
	}
	type m = map[string]any
	oauth := typed("envoy.extensions.filters.http.oauth2.v3.OAuth2", m{"config": m{
		"token_endpoint":         m{"cluster": "tokens", "uri": "http://idp/token", "timeout": "15s"},
		"authorization_endpoint": "https://idp/auth", "redirect_uri": "http://shop/callback", "forward_bearer_token": true,
		"redirect_path_matcher": m{"path": m{"exact": "/callback"}}, "signout_path": m{"path": m{"exact": "/signout"}},
		"token_cookie_chunking": m{"max_cookie_size": 512},
		"credentials":           m{"client_id": "me", "token_secret": m{"name": "token"}, "hmac_secret": m{"name": "hmac"}},
	}})
	hcm := typed("envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager", m{
		"stat_prefix": "shop",
		"route_config": m{"virtual_hosts": []any{m{"name": "all", "domains": []any{"*"}, "routes": []any{
			m{"match": m{"prefix": "/"}, "route": m{"cluster": "up"}},
		}}}},
		"http_filters": []any{
			m{"name": "envoy.filters.http.oauth2", "typed_config": oauth},
			m{"name": "router", "typed_config": typed("envoy.extensions.filters.http.router.v3.Router", m{})},
		},
	})
	generic := func(name, text string) m {
		return m{"name": name, "generic_secret": m{"secret": m{"inline_string": text}}}
	}
	raw, err := json.Marshal(m{
		"admin": m{"address": dialogue.SocketAddress(admin)},
		"layered_runtime": m{"layers": []any{m{"name": "fleet", "static_layer": m{
			"envoy.reloadable_features.oauth2_use_gcm_encryption": gcm,
		}}}},
		"static_resources": m{
			"secrets": []any{generic("token", "s3cret"), generic("hmac", "shared by all")},
			"clusters": []any{
				dialogue.StaticCluster("up", portOf(f.up), false), dialogue.StaticCluster("tokens", portOf(f.tokens), false),
			},
			"listeners": []any{m{"name": "shop", "address": dialogue.SocketAddress(port), "filter_chains": []any{
				m{"filters": []any{m{"name": "hcm", "typed_config": hcm}}},
			}}},
		},
	})
	if err != nil {
		f.t.Fatal(err)
	}
	return raw
}

// browser keeps cookies, whichever proxy sets them: all are the same site.
type browser struct {
	t       *testing.T
	cookies map[string]string
}

// get asks a proxy; location is where it sends the browser.
func (b *browser) get(proxy int, path string) (code int, location *url.URL, body string) {
	b.t.Helper()
	rq, err := http.NewRequest(http.MethodGet, fmt.Sprintf("http://127.0.0.1:%d%s", proxy, path), nil)
	if err != nil {
		b.t.Fatal(err)
	}
	rq.Host = "shop"
	for name, value := range b.cookies {
		rq.Header.Add("cookie", name+"="+value)
	}
	client := &http.Client{
		Timeout: 30 * time.Second, Transport: &http.Transport{DisableKeepAlives: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	r, err := client.Do(rq)
	if err != nil {
		b.t.Fatal(err)
	}
	defer r.Body.Close()
	raw, err := io.ReadAll(r.Body)
	if err != nil {
		b.t.Fatal(err)
	}
	for _, c := range r.Header.Values("set-cookie") {
		pair, attributes, _ := strings.Cut(c, ";")
		name, value, _ := strings.Cut(pair, "=")
		if b.cookies[name] = value; strings.Contains(attributes, "expires=Thu, 01 Jan 1970") {
			delete(b.cookies, name)
		}
	}
	if location, err = url.Parse(r.Header.Get("location")); err != nil {
		b.t.Fatal(err)
	}
	return r.StatusCode, location, string(raw)
}

// must asks a proxy, which has to let the request through with an access token.
func (b *browser) must(proxy int, token string) {
	b.t.Helper()
	code, _, body := b.get(proxy, "/things")
	sent, cookies, _ := strings.Cut(body, "|")
	if code != http.StatusOK || sent != "Bearer "+token {
		b.t.Fatalf("%d, %.100q, want %s", code, body, token)
	}
	if !strings.Contains(cookies, "IdToken="+strings.Repeat("i", 600)) || strings.Contains(cookies, "Oauth") || strings.Contains(cookies, "RefreshToken") {
		b.t.Fatalf("upstream sees %.200q", cookies)
	}
}

// tour goes to the authorization server from one proxy, comes back to another, goes on at
// the first, and has its session renewed at both.
func tour(t *testing.T, one, other int) {
	b := &browser{t, map[string]string{}}
	code, to, _ := b.get(one, "/things?x=1")
	if code != http.StatusFound || to.Host != "idp" || to.Query().Get("code_challenge_method") != "S256" {
		t.Fatalf("%d, %v", code, to)
	}
	code, back, body := b.get(other, "/callback?code="+to.Query().Get("code_challenge")+"&state="+to.Query().Get("state"))
	if code != http.StatusFound || back.String() != "http://shop/things?x=1" {
		t.Fatalf("%d, %v, %s", code, back, body)
	}
	for name := range b.cookies {
		if strings.HasPrefix(name, "OauthNonce") || strings.HasPrefix(name, "CodeVerifier") {
			t.Errorf("the cookie %s of the flow is left", name)
		}
	}
	if b.cookies["IdToken_chunks"] != "2" {
		t.Errorf("the ID token is in %q cookies", b.cookies["IdToken_chunks"])
	}
	b.must(one, "access-authorization_code")
	b.must(other, "access-authorization_code")
	for _, proxy := range []int{one, other} {
		b.cookies["OauthExpires"] = "1" // signed with another time: no session
		b.must(proxy, "access-refresh_token")
	}
	b.must(one, "access-refresh_token")
	if code, _, _ := b.get(other, "/signout"); code != http.StatusFound || len(b.cookies) != 0 {
		t.Fatalf("%d, cookies left: %d", code, len(b.cookies))
	}
	if code, _, _ := b.get(one, "/things"); code != http.StatusFound {
		t.Fatalf("%d without a session", code)
	}
}

// play lets two proxies, made by start, share sessions, with each kind of encryption at each.
func play(t *testing.T, start func(t testing.TB, config []byte, admin string) *dialogue.Proxy) {
	for _, c := range []struct{ here, there bool }{{false, false}, {true, true}, {true, false}, {false, true}} {
		t.Run(fmt.Sprintf("gcm=%v,%v", c.here, c.there), func(t *testing.T) {
			f := newFleet(t)
			p := ports.FreeN(t, 4)
			dialogue.StartMecha(t, f.config(p[0], p[1], c.here))
			start(t, f.config(p[2], p[3], c.there), fmt.Sprintf("127.0.0.1:%d", p[3]))
			tour(t, p[0], p[2])
			tour(t, p[2], p[0])
		})
	}
}

// TestFleet: a session that begins at one proxy goes on at another.
func TestFleet(t *testing.T) {
	play(t, func(t testing.TB, config []byte, _ string) *dialogue.Proxy { return dialogue.StartMecha(t, config) })
}
