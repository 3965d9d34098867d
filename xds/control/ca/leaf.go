package ca

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"net/url"
	"strings"
	"time"
)

// Identity is a workload: the service account that it runs as.
type Identity struct{ Namespace, ServiceAccount string }

// ParseIdentity reads "namespace/service-account".
func ParseIdentity(s string) (Identity, error) {
	ns, sa, ok := strings.Cut(s, "/")
	id := Identity{ns, sa}
	if !ok {
		return id, fmt.Errorf("ca: %q is no NAMESPACE/SERVICE-ACCOUNT", s)
	}
	return id, id.check()
}

// String is "namespace/service-account".
func (i Identity) String() string { return i.Namespace + "/" + i.ServiceAccount }

// URI is the SPIFFE ID of a workload.
func (i Identity) URI(trustDomain string) string {
	return "spiffe://" + trustDomain + "/ns/" + i.Namespace + "/sa/" + i.ServiceAccount
}

// check refuses names that could be read as another identity: only what a path of a
// SPIFFE ID may hold, and no dots alone.
func (i Identity) check() error {
	for _, part := range []string{i.Namespace, i.ServiceAccount} {
		if !segment(part) {
			return fmt.Errorf("ca: %q is no name of a workload: letters, digits, '-', '_' and '.'", i)
		}
	}
	return nil
}

const maxName = 253

func segment(s string) bool {
	if s == "" || s == "." || s == ".." || len(s) > maxName {
		return false
	}
	for _, c := range []byte(s) {
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '-', c == '_', c == '.':
		default:
			return false
		}
	}
	return true
}

// CheckTrustDomain says what is wrong with a trust domain (SPIFFE ID, section 2.1).
func CheckTrustDomain(s string) error {
	if !segment(s) || strings.ToLower(s) != s {
		return fmt.Errorf("ca: %q is no trust domain: lower-case letters, digits, '-', '_' and '.'", s)
	}
	return nil
}

// Certificate is a certificate with its key. The key is a secret: whoever has it hands it
// to the workload and to nobody else.
type Certificate struct {
	Chain, Key []byte // PEM
	Serial     string // hexadecimal
	NotBefore  time.Time
	NotAfter   time.Time
}

// RenewAt is when the next one should be there, with chance from 0 to 1: about half way,
// so that half of its life is left to overcome trouble.
func (c *Certificate) RenewAt(chance float64) time.Time {
	life := c.NotAfter.Sub(c.NotBefore)
	return c.NotAfter.Add(-life / 2).Add(-time.Duration(chance * float64(life) / 10))
}

// Issue makes a key and a certificate for a workload. Nothing of it is kept.
func (a *Authority) Issue(id Identity) (*Certificate, error) {
	if err := id.check(); err != nil {
		return nil, err
	}
	uri, err := url.Parse(id.URI(a.o.TrustDomain))
	if err != nil {
		return nil, fmt.Errorf("ca: %s: %w", id, err)
	}
	// No subject: the identity is the URI, and the extension is critical (RFC 5280, 4.2.1.6).
	return a.sign(&x509.Certificate{
		URIs: []*url.URL{uri}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	})
}

// sign completes a template and signs it with a key of its own.
func (a *Authority) sign(t *x509.Certificate) (*Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("ca: make a key: %w", err)
	}
	if t.SerialNumber, err = newSerial(); err != nil {
		return nil, err
	}
	t.KeyUsage, t.BasicConstraintsValid = x509.KeyUsageDigitalSignature, true
	a.mu.Lock()
	now := a.o.Now()
	by := signer(a.roots, now)
	t.NotBefore, t.NotAfter = later(now.Add(-skew), by.cert.NotBefore), now.Add(a.o.TTL)
	if t.NotAfter.After(by.cert.NotAfter) {
		t.NotAfter = by.cert.NotAfter
	}
	cert, signKey := by.cert, by.key
	a.mu.Unlock()
	der, err := x509.CreateCertificate(rand.Reader, t, cert, &key.PublicKey, signKey)
	if err != nil {
		return nil, fmt.Errorf("ca: sign a certificate: %w", err)
	}
	raw, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("ca: encode a key: %w", err)
	}
	return &Certificate{
		Chain:  pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		Key:    pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: raw}),
		Serial: t.SerialNumber.Text(16), NotBefore: now, NotAfter: t.NotAfter,
	}, nil
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// idOf is the one URI of a certificate, "" where there is another number of them.
func idOf(c *x509.Certificate) string {
	if len(c.URIs) != 1 {
		return ""
	}
	return c.URIs[0].String()
}
