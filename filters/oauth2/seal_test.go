package oauth2

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// FuzzOpen: nothing that a cookie, a path or a state may contain makes the filter panic, and
// what is sealed opens to what it was.
func FuzzOpen(f *testing.F) {
	for _, s := range []string{"", "gcm.", "gcm.AAAA", "eyJ1cmwiOiJodHRwOi8vYSJ9", "/callback?code=1&state=e30", "http://a@b/\\", "http://[::1]:80/x"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		for _, gcm := range []bool{false, true} {
			z := sealer{key: sha256.Sum256([]byte("key")), gcm: gcm, cbc: true}
			_, _, _ = z.open(text) // it opens or does not
			got, legacy, err := z.open(z.seal(text))
			if err != nil || got != text || legacy == gcm {
				t.Fatalf("gcm %v: %q, %v, %v", gcm, got, legacy, err)
			}
		}
		_, _ = readState(text)
		_ = parseQuery(text)
		_, _ = expiryOf(text, time.Now())
		if u, ok := parseURL(text); ok && (u.host == "" || !headerValue(text)) {
			t.Fatalf("%q is taken for a URL", text)
		}
		_ = allowedHost(text, []string{"*.example.com", "::1"})
	})
}

// TestOpenRefuses: what was sealed with CBC does not open where that is forbidden, nor with
// another key.
func TestOpenRefuses(t *testing.T) {
	old := sealer{key: sha256.Sum256([]byte("key")), cbc: true}
	sealed := old.seal("text")
	strict := sealer{key: old.key, gcm: true}
	if _, _, err := strict.open(sealed); err != errNoPermit {
		t.Errorf("CBC where it is forbidden: %v", err)
	}
	other := sealer{key: sha256.Sum256([]byte("other"))}
	if _, _, err := other.open(strict.seal("text")); err != errFinalize {
		t.Errorf("another key: %v", err)
	}
}

// TestAllowedHost: what looks like an allowed host and is none leads nowhere.
func TestAllowedHost(t *testing.T) {
	for url, want := range map[string]bool{
		"http://a.example.com/x": true, "https://A.EXAMPLE.com:8443": true, "http://[::1]:80/": true, "http://[::1]/": true,
		"http://example.com/": false, "http://evil.com/?.example.com": false, "http://evil.com\\.example.com/": false,
		"http://a.example.com@evil.com/": false, "http://evil.com#.example.com": false, "javascript://a.example.com/": false,
		"//a.example.com": false, "http://evilexample.com": false, "http://a.example.com.evil.com/": false, "": false,
	} {
		if got := allowedHost(url, []string{"*.example.com", "::1"}); got != want {
			t.Errorf("%q: %v", url, got)
		}
	}
}

// TestAssertion: who asks is told with a signature of the key, which has its name.
func TestAssertion(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	f := &Filter{
		secret: pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), keyID: "one",
		set: &settings{ClientID: "me", Assertion: assertionSpec{jose.ES256, time.Minute, "http://idp/token"}},
	}
	text, err := f.assertion()
	if err != nil {
		t.Fatal(err)
	}
	signed, err := jose.ParseSigned(text, []jose.SignatureAlgorithm{jose.ES256})
	if err != nil {
		t.Fatal(err)
	}
	raw, err := signed.Verify(&key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	var claims struct {
		Iss, Sub, Aud, Jti string
		Iat, Exp           int64
	}
	if err := json.Unmarshal(raw, &claims); err != nil {
		t.Fatal(err)
	}
	if claims.Iss != "me" || claims.Sub != "me" || claims.Aud != "http://idp/token" || claims.Jti == "" || claims.Exp-claims.Iat != 60 || signed.Signatures[0].Header.KeyID != "one" {
		t.Errorf("%+v, key %q", claims, signed.Signatures[0].Header.KeyID)
	}
	f.set.Assertion.algorithm = jose.RS256
	if _, err := f.assertion(); err == nil {
		t.Error("an EC key signs as if it were one of RSA")
	}
}
