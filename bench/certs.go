package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"
)

// certs are the certificates of a run, all ECDSA P-256: of the proxies to clients, of
// the proxies to hosts, and of the back end. Files of the same name lie in dir:
// ca.crt, and NAME.crt, NAME.key, and both in NAME.pem.
type certs struct {
	dir     string
	server  tls.Certificate // the proxies'
	backend tls.Certificate
	pool    *x509.CertPool
}

func newCerts() (*certs, error) {
	dir, err := os.MkdirTemp("", "bench-certs-")
	if err != nil {
		return nil, err
	}
	c := &certs{dir: dir, pool: x509.NewCertPool()}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	ca := certificate("bench CA", 1)
	ca.IsCA, ca.KeyUsage = true, x509.KeyUsageCertSign
	der, err := x509.CreateCertificate(rand.Reader, ca, ca, &key.PublicKey, key)
	if err != nil {
		return nil, err
	}
	if ca, err = x509.ParseCertificate(der); err != nil {
		return nil, err
	}
	c.pool.AddCert(ca)
	if err := c.write("ca.crt", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})); err != nil {
		return nil, err
	}
	if c.server, err = c.issue("server", 2, ca, key); err != nil {
		return nil, err
	}
	if _, err = c.issue("client", 3, ca, key); err != nil {
		return nil, err
	}
	c.backend, err = c.issue("backend", 4, ca, key)
	return c, err
}

func certificate(name string, serial int64) *x509.Certificate {
	return &x509.Certificate{
		SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		BasicConstraintsValid: true,
		DNSNames:              []string{tlsName}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
}

// tlsName is what clients call the proxies, and proxies the back end.
const tlsName = "bench.local"

func (c *certs) issue(name string, serial int64, ca *x509.Certificate, by *ecdsa.PrivateKey) (tls.Certificate, error) {
	var none tls.Certificate
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return none, err
	}
	t := certificate(name, serial)
	t.KeyUsage = x509.KeyUsageDigitalSignature
	t.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
	der, err := x509.CreateCertificate(rand.Reader, t, ca, &key.PublicKey, by)
	if err != nil {
		return none, err
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return none, err
	}
	crt := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	pkcs := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret})
	for file, text := range map[string][]byte{".crt": crt, ".key": pkcs, ".pem": append(append([]byte(nil), crt...), pkcs...)} {
		if err := c.write(name+file, text); err != nil {
			return none, err
		}
	}
	return tls.X509KeyPair(crt, pkcs)
}

func (c *certs) write(name string, text []byte) error {
	return os.WriteFile(filepath.Join(c.dir, name), text, 0o600)
}

func (c *certs) remove() { _ = os.RemoveAll(c.dir) }
