package lua

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"testing"
)

// TestSignatures: right ones and wrong ones, of all kinds of keys.
func TestSignatures(t *testing.T) {
	const data = "signed"
	sum := sha256.Sum256([]byte(data))
	r, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	e, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	_, d, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for name, key := range map[string]crypto.Signer{"rsa": r, "ecdsa": e, "ed25519": d} {
		der, err := x509.MarshalPKIXPublicKey(key.Public())
		if err != nil {
			t.Fatal(err)
		}
		message, options := sum[:], crypto.SignerOpts(crypto.SHA256)
		if name == "ed25519" {
			message, options = []byte(data), crypto.Hash(0)
		}
		signature, err := key.Sign(rand.Reader, message, options)
		if err != nil {
			t.Fatal(err)
		}
		if err := verifySignature("SHA256", string(der), string(signature), data); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		for what, err := range map[string]error{
			"other data":   verifySignature("sha256", string(der), string(signature), "other"),
			"other hash":   verifySignature("sha3", string(der), string(signature), data),
			"no key":       verifySignature("sha256", "junk", string(signature), data),
			"no signature": verifySignature("sha256", string(der), "", data),
		} {
			if err == nil {
				t.Errorf("%s: %s is accepted", name, what)
			}
		}
	}
}
