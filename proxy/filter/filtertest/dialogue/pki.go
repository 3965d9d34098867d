package dialogue

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// pki is the certificates of one run, as files of a folder: NAME.pem and NAME.key for each
// of names, and crl.pem, in which "revoked" is revoked. Words stand for what is random
// about them.
type pki struct {
	dir   string
	certs map[string]*issued
	words []string // pairs for a strings.Replacer
	vars  []string
}

type issued struct {
	cert  *x509.Certificate
	chain []*x509.Certificate // as shown, cert first
	key   crypto.Signer
}

// The time in which certificates of dialogues are valid, and one that is over.
var (
	validFrom  = time.Date(2020, 1, 2, 3, 4, 5, 0, time.UTC)
	validUntil = time.Date(2120, 1, 2, 3, 4, 5, 0, time.UTC)
	expiredAt  = time.Date(2021, 1, 2, 3, 4, 5, 0, time.UTC)
)

// names is who there is.
func names() []struct {
	name, issuer string // "" signs itself
	rsa          bool
	c            x509.Certificate
} {
	uri := func(path string) *url.URL { return &url.URL{Scheme: "spiffe", Host: "td", Path: "/" + path} }
	subject := func(cn string) pkix.Name { return pkix.Name{CommonName: cn} }
	leaf, ca := x509.KeyUsageDigitalSignature, x509.KeyUsageCertSign|x509.KeyUsageCRLSign
	server := x509.Certificate{
		Subject: subject("server"), KeyUsage: leaf | x509.KeyUsageKeyEncipherment,
		DNSNames: []string{"a.test", "*.wild.test"}, URIs: []*url.URL{uri("server"), uri("second")},
	}
	rsaServer := server
	rsaServer.Subject = subject("server-rsa")
	b := server
	b.Subject, b.DNSNames, b.URIs = subject("b"), []string{"b.test"}, nil
	client := x509.Certificate{
		Subject: pkix.Name{
			CommonName: "client, #1", OrganizationalUnit: []string{`x "y" \z;`}, Organization: []string{"Grüße"}, Country: []string{"DE"},
			ExtraNames: []pkix.AttributeTypeAndValue{
				{Type: asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 1}, Value: "c@d.test"}, {Type: asn1.ObjectIdentifier{1, 2, 3, 4}, Value: "odd"},
			},
		},
		KeyUsage: leaf, DNSNames: []string{"c.test", "d.test"}, URIs: []*url.URL{uri("client"), uri("other")},
		EmailAddresses: []string{"c@d.test"}, IPAddresses: []net.IP{net.IPv4(10, 0, 0, 1), net.ParseIP("fd00::1")},
	}
	plain := x509.Certificate{Subject: subject("plain"), KeyUsage: leaf}
	nameless := x509.Certificate{KeyUsage: leaf}
	root := func(cn string) x509.Certificate {
		return x509.Certificate{Subject: subject(cn), IsCA: true, BasicConstraintsValid: true, KeyUsage: ca}
	}
	purpose := plain
	purpose.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	encipher := plain
	encipher.KeyUsage = x509.KeyUsageKeyEncipherment
	odd := plain
	odd.ExtraExtensions = []pkix.Extension{otherName()}
	clientOnly := plain
	clientOnly.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	signer := plain
	signer.Subject = subject("rsa-signer")
	oldServer := server
	oldServer.NotAfter = expiredAt
	must := server
	must.Subject = subject("must-staple")
	must.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 1, 24}, Value: []byte{0x30, 3, 2, 1, 5}}}
	old := plain
	old.NotAfter = expiredAt
	return []struct {
		name, issuer string
		rsa          bool
		c            x509.Certificate
	}{
		{"ca", "", false, root("ca")}, {"ca2", "", false, root("ca2")}, {"middle", "ca", false, root("middle")},
		{"server", "ca", false, server}, {"server-rsa", "ca", true, rsaServer}, {"b", "ca", false, b}, {"foreign-server", "ca2", false, server},
		{"client", "ca", false, client}, {"plain", "ca", false, plain}, {"nameless", "ca", false, nameless}, {"revoked", "ca", false, plain},
		{"foreign", "ca2", false, plain}, {"expired", "ca", false, old}, {"below", "middle", false, client},
		{"purpose", "ca", false, purpose}, {"encipher", "ca", true, encipher},
		{"odd", "ca", false, odd}, {"must-staple", "ca", false, must},
		{"client-only", "ca", false, clientOnly}, {"rsa-signer", "ca", true, signer}, {"expired-spiffe", "ca", false, oldServer},
	}
}

// newPKI issues all certificates.
func newPKI(dir string) (*pki, error) {
	p := &pki{dir: dir, certs: map[string]*issued{}, vars: []string{"$certs", dir}}
	for i, n := range names() {
		if err := p.issue(n.name, n.issuer, n.rsa, n.c, int64(0xabc000+i)); err != nil {
			return nil, err
		}
	}
	ca := p.certs["ca"]
	raw, err := x509.CreateRevocationList(rand.Reader, &x509.RevocationList{
		Number: big.NewInt(1), ThisUpdate: validFrom, NextUpdate: validUntil,
		RevokedCertificateEntries: []x509.RevocationListEntry{{SerialNumber: p.certs["revoked"].cert.SerialNumber, RevocationTime: validFrom}},
	}, ca.cert, ca.key)
	if err != nil {
		return nil, err
	}
	return p, errors.Join(p.write("crl.pem", "X509 CRL", raw), p.staple("good.ocsp", "server", validUntil),
		p.staple("stale.ocsp", "server", expiredAt), p.staple("must.ocsp", "must-staple", validUntil),
		p.secret("ca", ""), p.secret("named", ", match_typed_subject_alt_names: [{san_type: DNS, matcher: {exact: b.test}}]"))
}

// secret writes NAME.yaml, from which a validation context of that name comes over SDS: ca,
// and more.
func (p *pki) secret(name, more string) error {
	text := fmt.Sprintf(`resources: [{"@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret, name: %s, `+
		`validation_context: {trusted_ca: {filename: %s}%s}}]`, name, filepath.Join(p.dir, "ca.pem"), more)
	return os.WriteFile(filepath.Join(p.dir, name+".yaml"), []byte(text), 0o600)
}

// otherName is an extension with a subject alternative name of a kind of its own.
func otherName() pkix.Extension {
	name, _ := asn1.Marshal(struct { // of constants
		Type  asn1.ObjectIdentifier
		Value string `asn1:"explicit,tag:0,utf8"`
	}{asn1.ObjectIdentifier{1, 2, 3, 4}, "other name"})
	name[0] = 0xa0 // [0] in place of SEQUENCE
	value, _ := asn1.Marshal([]asn1.RawValue{{FullBytes: name}})
	return pkix.Extension{Id: asn1.ObjectIdentifier{2, 5, 29, 17}, Value: value}
}

func (p *pki) issue(name, issuer string, useRSA bool, c x509.Certificate, serial int64) (err error) {
	out := &issued{}
	if useRSA {
		out.key, err = rsa.GenerateKey(rand.Reader, 2048)
	} else {
		out.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	}
	if err != nil {
		return err
	}
	c.SerialNumber, c.NotBefore = big.NewInt(serial), validFrom
	if c.NotAfter.IsZero() {
		c.NotAfter = validUntil
	}
	parent, signer := &c, out.key
	if by := p.certs[issuer]; by != nil {
		parent, signer = by.cert, by.key
	}
	raw, err := x509.CreateCertificate(rand.Reader, &c, parent, out.key.Public(), signer)
	if err != nil {
		return err
	}
	if out.cert, err = x509.ParseCertificate(raw); err != nil {
		return err
	}
	out.chain = []*x509.Certificate{out.cert}
	if issuer == "middle" {
		out.chain = append(out.chain, p.certs[issuer].cert)
	}
	p.certs[name] = out
	p.describe(name, out.cert)
	key, err := x509.MarshalPKCS8PrivateKey(out.key)
	if err != nil {
		return err
	}
	var chain [][]byte
	for _, x := range out.chain {
		chain = append(chain, x.Raw)
	}
	return errors.Join(p.write(name+".pem", "CERTIFICATE", chain...), p.write(name+".key", "PRIVATE KEY", key))
}

func (p *pki) write(name, kind string, blocks ...[]byte) error {
	var out []byte
	for _, b := range blocks {
		out = append(out, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: b})...)
	}
	return os.WriteFile(filepath.Join(p.dir, name), out, 0o600)
}

// describe makes the words for a certificate.
func (p *pki) describe(name string, c *x509.Certificate) {
	long, short, key := sha256.Sum256(c.Raw), sha1.Sum(c.Raw), sha256.Sum256(c.RawSubjectPublicKeyInfo)
	escaped := strings.NewReplacer("\n", "%0A", " ", "%20", "+", "%2B", "/", "%2F", "=", "%3D").Replace(
		string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})))
	p.words = append(p.words, hex.EncodeToString(long[:]), "SHA256("+name+")", hex.EncodeToString(short[:]), "SHA1("+name+")", escaped, "PEM("+name+")")
	p.vars = append(p.vars, "$hash("+name+")", hex.EncodeToString(long[:]), "$spki("+name+")", base64.StdEncoding.EncodeToString(key[:]))
}
