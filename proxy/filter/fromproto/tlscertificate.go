package fromproto

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"iter"
	"slices"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"

	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/secret"
)

// maxSecret is the most bytes that a part of a secret may have.
const maxSecret = 4 << 20

// TLSCertificate converts a TlsCertificate. Files are read now; who watches them, and
// watched_directory, converts it again. Errors never quote what they are about.
func TLSCertificate(pb *tlsv3.TlsCertificate) (*secret.Certificate, error) {
	err := Check(pb, nil, Fields{
		Used: []string{"certificate_chain", "private_key", "password", "ocsp_staple", "watched_directory"},
	})
	if err != nil {
		return nil, err
	}
	text, err := Bytes(pb.CertificateChain, maxSecret)
	if err != nil {
		return nil, filter.At("certificate_chain", err)
	}
	chain, err := certificates(text)
	if err != nil {
		return nil, filter.At("certificate_chain", err)
	}
	key, err := privateKey(pb)
	if err != nil {
		return nil, err
	}
	if err := strongEnough(chain[0]); err != nil {
		return nil, filter.At("certificate_chain", err)
	}
	c, err := secret.NewCertificate(chain, key)
	if err != nil {
		return nil, filter.At("private_key", err)
	}
	c.Path = pb.CertificateChain.GetFilename()
	if pb.OcspStaple == nil {
		return c, nil
	}
	return c, filter.At("ocsp_staple", staple(c, pb.OcspStaple))
}

// pemBlocks yields the blocks of the given types. Those of others are left out: a chain and
// its key may be in one file.
func pemBlocks(text string, types ...string) iter.Seq[*pem.Block] {
	return func(yield func(*pem.Block) bool) {
		b, rest := pem.Decode([]byte(text))
		for ; b != nil; b, rest = pem.Decode(rest) {
			if slices.Contains(types, b.Type) && !yield(b) {
				return
			}
		}
	}
}

func certificates(text string) (out []*x509.Certificate, err error) {
	for b := range pemBlocks(text, "CERTIFICATE", "TRUSTED CERTIFICATE", "X509 CERTIFICATE") {
		c, err := x509.ParseCertificate(b.Bytes)
		if err != nil {
			return nil, fmt.Errorf("certificate %d: %w", len(out), err)
		}
		out = append(out, c)
	}
	if len(out) == 0 {
		return nil, errors.New("has no certificate in PEM form")
	}
	return out, nil
}

// strongEnough refuses what Envoy refuses, too.
func strongEnough(leaf *x509.Certificate) error {
	switch k := leaf.PublicKey.(type) {
	case *rsa.PublicKey:
		if k.N.BitLen() < 2048 {
			return errors.New("only RSA certificates with 2048-bit or larger keys are supported")
		}
	case *ecdsa.PublicKey:
		if k.Curve != elliptic.P256() && k.Curve != elliptic.P384() && k.Curve != elliptic.P521() {
			return errors.New("only P-256, P-384 or P-521 ECDSA certificates are supported")
		}
	default:
		return fmt.Errorf("only RSA and ECDSA certificates are supported, not %s", leaf.PublicKeyAlgorithm)
	}
	return nil
}

func privateKey(pb *tlsv3.TlsCertificate) (crypto.Signer, error) {
	if pb.PrivateKey == nil {
		return nil, filter.At("private_key", errors.New("is required"))
	}
	text, err := Bytes(pb.PrivateKey, maxSecret)
	if err != nil {
		return nil, filter.At("private_key", err)
	}
	if pb.Password != nil { // of no use to a key that is not encrypted, and those are refused
		if _, err := Bytes(pb.Password, maxSecret); err != nil {
			return nil, filter.At("password", err)
		}
	}
	for b := range pemBlocks(text, "PRIVATE KEY", "RSA PRIVATE KEY", "EC PRIVATE KEY", "ENCRYPTED PRIVATE KEY") {
		key, err := keyOf(b)
		return key, filter.At("private_key", err)
	}
	return nil, filter.At("private_key", errors.New("has no private key in PEM form"))
}

func keyOf(b *pem.Block) (crypto.Signer, error) {
	if b.Type == "ENCRYPTED PRIVATE KEY" || b.Headers["DEK-Info"] != "" {
		return nil, errors.New("this build does not support encrypted private keys")
	}
	var key any
	var err error
	switch b.Type {
	case "RSA PRIVATE KEY":
		key, err = x509.ParsePKCS1PrivateKey(b.Bytes)
	case "EC PRIVATE KEY":
		key, err = x509.ParseECPrivateKey(b.Bytes)
	default:
		key, err = x509.ParsePKCS8PrivateKey(b.Bytes)
	}
	if err != nil {
		return nil, errors.New("cannot be parsed") // the cause may quote it
	}
	if s, ok := key.(crypto.Signer); ok {
		return s, nil
	}
	return nil, errors.New("cannot sign")
}

func staple(c *secret.Certificate, pb *corev3.DataSource) error {
	raw, err := Bytes(pb, maxSecret)
	if err != nil {
		return err
	}
	c.Staple, err = secret.ParseStaple([]byte(raw), c.Leaf())
	return err
}

// TicketKeys converts a TlsSessionTicketKeys.
func TicketKeys(pb *tlsv3.TlsSessionTicketKeys) (*secret.TicketKeys, error) {
	var keys [][]byte
	for i, k := range pb.GetKeys() {
		b, err := Bytes(k, maxSecret)
		if err != nil {
			return nil, filter.AtIndex("keys", i, err)
		}
		keys = append(keys, []byte(b))
	}
	out, err := secret.NewTicketKeys(keys)
	return out, filter.At("keys", err)
}

// GenericSecret converts a GenericSecret.
func GenericSecret(pb *tlsv3.GenericSecret) (*secret.Generic, error) {
	var one []byte
	if pb.Secret != nil {
		b, err := Bytes(pb.Secret, maxSecret)
		if err != nil {
			return nil, filter.At("secret", err)
		}
		one = []byte(b)
	}
	named := map[string][]byte{}
	for name, s := range pb.Secrets {
		b, err := Bytes(s, maxSecret)
		if err != nil {
			return nil, filter.At(fmt.Sprintf("secrets[%q]", name), err)
		}
		named[name] = []byte(b)
	}
	return secret.NewGeneric(one, named), nil
}
