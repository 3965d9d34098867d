package jwtauthn

import (
	"encoding/base64"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/header"
)

// FuzzToken: no token and no key set makes the filter panic, and none that a fuzzer finds
// is good.
func FuzzToken(f *testing.F) {
	b64 := base64.RawURLEncoding.EncodeToString
	f.Add(b64([]byte(`{"alg":"HS256","kid":"h"}`))+"."+b64([]byte(`{"iss":"i","exp":1,"aud":["a"]}`))+".eA", []byte(`{"keys":[{"kty":"oct","kid":"h","k":"YWJj"}]}`))
	f.Add("a.b.c", []byte(`{"a":"-----BEGIN CERTIFICATE-----"}`))
	secret, _ := parseKeys([]byte(`{"keys":[{"kty":"oct","k":"` + b64([]byte("a secret that no fuzzer comes upon")) + `"}]}`))
	f.Fuzz(func(t *testing.T, raw string, set []byte) {
		keys, st := parseKeys(set)
		tok, bad := parseToken(raw)
		if bad != statusOK {
			return
		}
		if secret.verify(tok) == statusOK {
			t.Error("a forged token is good")
		}
		if st == statusOK {
			keys.verify(tok)
		}
		p := &provider{claims: []claimHeader{{"x-claim", []string{"sub"}}}, forwardPayload: "x-payload", maxLifetime: time.Hour}
		p.accepts(tok, newAudiences([]string{"a"}), time.Unix(1, 0))
		s := &filter.Stream{}
		s.Request.AddID(header.Path, "/p?a="+"b")
		p.apply(s, tok, &place{kind: inQuery, name: "a"})
		for _, v := range s.Request.All() {
			for i := range len(v) {
				if v[i] < ' ' {
					t.Errorf("%q", v)
				}
			}
		}
	})
}

// TestKeyConfusion: a token that says HS256 is never verified with a public key as the
// secret, whatever its kid says.
func TestKeyConfusion(t *testing.T) {
	public := []byte(`{"keys":[{"kty":"EC","kid":"k","crv":"P-256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}]}`)
	set, st := parseKeys(public)
	if st != statusOK {
		t.Fatal(st)
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.HS256, Key: public}, (&jose.SignerOptions{}).WithHeader("kid", "k"))
	if err != nil {
		t.Fatal(err)
	}
	signed, err := signer.Sign([]byte(`{"iss":"i"}`))
	if err != nil {
		t.Fatal(err)
	}
	raw, err := signed.CompactSerialize()
	if err != nil {
		t.Fatal(err)
	}
	tok, st := parseToken(raw)
	if st != statusOK {
		t.Fatal(st)
	}
	if st := set.verify(tok); st != verificationFails {
		t.Errorf("%v", st)
	}
}

// TestRotation: a cached token is verified anew with keys that have changed.
func TestRotation(t *testing.T) {
	c := newCache(1, 100)
	before, after := &keySet{}, &keySet{keys: make([]key, 1)}
	tok := &token{raw: "t"}
	c.add(tok, before)
	if c.find("t", before) != tok || c.find("t", after) != nil || c.find("t", before) != nil {
		t.Error("a token outlives its keys")
	}
	c.add(tok, after)
	c.add(&token{raw: "u"}, after)
	if c.find("t", after) != nil || c.find("u", after) == nil {
		t.Error("the cache does not keep the newest")
	}
}
