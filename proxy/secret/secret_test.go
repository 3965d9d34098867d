package secret

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"log/slog"
	"math/big"
	"strings"
	"testing"
	"time"
)

// selfSigned makes a certificate and its key.
func selfSigned(t *testing.T, template *x509.Certificate) (*x509.Certificate, *ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template.SerialNumber = big.NewInt(7)
	template.Subject = pkix.Name{CommonName: "tester"}
	template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return c, key
}

// TestNothingPrintsKeys prints every kind of secret in every usual way, alone and inside
// other values.
func TestNothingPrintsKeys(t *testing.T) {
	c, key := selfSigned(t, &x509.Certificate{})
	cert, err := NewCertificate([]*x509.Certificate{c}, key)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := key.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	ticket := bytes.Repeat([]byte("0123456789abcdef"), 5)
	tickets, err := NewTicketKeys([][]byte{ticket})
	if err != nil {
		t.Fatal(err)
	}
	hashed := tickets.Keys()[0]
	generic := NewGeneric([]byte("generic-secret"), map[string][]byte{"n": []byte("generic-secret")})
	type inside struct {
		Exported any
		hidden   any
	}
	for _, v := range []any{cert, *cert, tickets, *tickets, generic, *generic, Static(cert), Static(tickets), Static(generic)} {
		for _, w := range []any{v, inside{v, v}, []any{v}, map[string]any{"k": v}} {
			var out bytes.Buffer
			for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%d", "%q"} {
				fmt.Fprintf(&out, verb, w)
			}
			_ = json.NewEncoder(&out).Encode(w) // what cannot be encoded shows nothing
			slog.New(slog.NewTextHandler(&out, nil)).Info("x", "v", w)
			slog.New(slog.NewJSONHandler(&out, nil)).Info("x", "v", w)
			for _, k := range [][]byte{raw, key.D.Bytes(), ticket, hashed[:], []byte("generic-secret")} { //nolint:staticcheck // what a printer would show
				for _, form := range []string{
					string(k), hex.EncodeToString(k), base64.StdEncoding.EncodeToString(k),
					strings.Trim(fmt.Sprint(k), "[]"), new(big.Int).SetBytes(k).String(), fmt.Sprintf("%#v", k),
				} {
					if strings.Contains(strings.ToLower(out.String()), strings.ToLower(form)) {
						t.Fatalf("%T of %T shows a key: %q in %s", w, v, form, out.String())
					}
				}
			}
		}
	}
}

func TestCertificateNeedsItsKey(t *testing.T) {
	c, _ := selfSigned(t, &x509.Certificate{})
	_, other := selfSigned(t, &x509.Certificate{})
	if _, err := NewCertificate([]*x509.Certificate{c}, other); err == nil {
		t.Error("the key of another certificate was accepted")
	}
	if _, err := NewCertificate(nil, other); err == nil {
		t.Error("an empty chain was accepted")
	}
}

func TestMerge(t *testing.T) {
	a, _ := selfSigned(t, &x509.Certificate{})
	b, _ := selfSigned(t, &x509.Certificate{})
	one := uint32(1)
	v := (&Validation{CAs: []*x509.Certificate{a}, CAPath: "a", SANs: make([]SAN, 1), Expired: true}).
		Merge(&Validation{CAs: []*x509.Certificate{b}, CAPath: "b", SANs: make([]SAN, 2), MaxDepth: &one})
	if len(v.CAs) != 1 || v.CAs[0] != b || v.CAPath != "b" || len(v.SANs) != 3 || !v.Expired || *v.MaxDepth != 1 {
		t.Errorf("merged to %+v", v)
	}
	if v.Check() != nil {
		t.Error("refused with a CA")
	}
	if (&Validation{SANs: make([]SAN, 1)}).Check() == nil || (&Validation{Expired: true}).Check() == nil {
		t.Error("names or expiry without a CA were accepted")
	}
	var none *Validation
	if none.Merge(v) != v || v.Merge(nil) != v || none.Requires() {
		t.Error("nil is nothing")
	}
}
