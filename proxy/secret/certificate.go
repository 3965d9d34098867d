package secret

import (
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"time"
)

// Certificate is a chain, leaf first, with the key of the leaf (TlsCertificate). It
// prints as the name of its owner.
type Certificate struct {
	Chain []*x509.Certificate
	Path  string // of the file the chain is from, "" for inline (/certs says "<inline>")
	// Staple is what was parsed of the OCSP response, nil without one.
	Staple *Staple

	pair func() *tls.Certificate // a function, which no printer of structs looks into
}

// Staple is an OCSP response for the leaf (RFC 6960), as far as it is looked at.
type Staple struct {
	Raw                    []byte
	ThisUpdate, NextUpdate time.Time // NextUpdate is zero where the response has none
}

// Expired reports whether the response is not valid at t.
func (s *Staple) Expired(t time.Time) bool {
	return t.Before(s.ThisUpdate) || !s.NextUpdate.IsZero() && t.After(s.NextUpdate)
}

// NewCertificate puts a chain and the key of its first certificate together. The key must
// be an RSA or ECDSA key, as in Envoy, and that of the leaf.
func NewCertificate(chain []*x509.Certificate, key crypto.Signer) (*Certificate, error) {
	if len(chain) == 0 {
		return nil, errors.New("secret: the chain is empty")
	}
	if key != nil {
		own, ok := key.Public().(interface{ Equal(crypto.PublicKey) bool })
		if !ok || !own.Equal(chain[0].PublicKey) {
			return nil, errors.New("secret: the private key is not that of the certificate")
		}
	}
	pair := &tls.Certificate{PrivateKey: key, Leaf: chain[0]}
	for _, x := range chain {
		pair.Certificate = append(pair.Certificate, x.Raw)
	}
	return &Certificate{Chain: chain, pair: func() *tls.Certificate { return pair }}, nil
}

// Leaf returns the first certificate of the chain.
func (c *Certificate) Leaf() *x509.Certificate { return c.Chain[0] }

// Pair returns the chain and key for handshakes. It holds the key: it is not to be
// printed or kept.
func (c *Certificate) Pair() *tls.Certificate { return c.pair() }

// String names the certificate without its key.
func (c Certificate) String() string {
	if len(c.Chain) == 0 {
		return "no certificate"
	}
	return fmt.Sprintf("certificate %x of %s, valid until %s", c.Leaf().SerialNumber, c.Leaf().Subject, c.Leaf().NotAfter.UTC().Format(time.RFC3339))
}

// Format implements fmt.Formatter: every verb prints String.
func (c Certificate) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(c.String())) } // f is memory

// MarshalJSON implements json.Marshaler: the certificate's String.
func (c Certificate) MarshalJSON() ([]byte, error) { return quoted(c.String()), nil }

// LogValue implements slog.LogValuer.
func (c Certificate) LogValue() slog.Value { return slog.StringValue(c.String()) }

func quoted(s string) []byte { return fmt.Appendf(nil, "%q", s) }
