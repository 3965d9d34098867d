package wasm

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"strings"
	"testing"

	"github.com/mecha-mesh/mecha/proxy/wire"
)

// TestSignatures: what a guest signs with a key, another one can verify, in DER and PEM, and nothing else.
func TestSignatures(t *testing.T) {
	one, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	other, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct{ private, public any }{{one, &one.PublicKey}, {other, &other.PublicKey}} {
		private, err := x509.MarshalPKCS8PrivateKey(tc.private)
		if err != nil {
			t.Fatal(err)
		}
		public, err := x509.MarshalPKIXPublicKey(tc.public)
		if err != nil {
			t.Fatal(err)
		}
		ask := wire.Bytes(wire.Bytes(wire.Text(nil, 1, "sha256"), 4, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})), 3, "text")
		out, status := sign(nil, ask)
		if status != StatusOK {
			t.Fatalf("signing: status %d", status)
		}
		var signature []byte
		wire.Fields(out, func(field int, _ uint64, v []byte) {
			if field == 2 {
				signature = v
			}
		})
		for text, want := range map[string]bool{"text": true, "another": false} {
			ask := wire.Bytes(wire.Bytes(wire.Bytes(wire.Text(nil, 1, "sha256"), 2, public), 3, signature), 4, text)
			if out, status := verifySignature(nil, ask); status != StatusOK || strings.HasPrefix(string(out), "\x08\x01") != want {
				t.Errorf("%T of %q: status %d, %q", tc.public, text, status, out)
			}
		}
		if _, status := verifySignature(nil, wire.Bytes(wire.Bytes(nil, 5, "x"), 2, public)); status != StatusBadArgument {
			t.Errorf("two keys: status %d", status)
		}
		if out, status := sign(nil, wire.Bytes(wire.Text(nil, 1, "md5"), 2, private)); status != StatusOK || !strings.Contains(string(out), "md5 is not supported") {
			t.Errorf("an unknown hash: status %d, %q", status, out)
		}
	}
}
