package admin

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"math/big"
	"net"
	"net/url"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/mecha-mesh/mecha/proxy/secret"
)

// withContexts is a process that has TLS contexts.
type withContexts struct {
	*process
	contexts []secret.InUse
}

func (w withContexts) Certificates() []secret.InUse { return w.contexts }

func signed(t *testing.T, template *x509.Certificate) (*x509.Certificate, *ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
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

// What is shown is what Envoy 1.40 shows of such certificates, and nothing of the key.
func TestCerts(t *testing.T) {
	from := time.Now().Add(-time.Hour).UTC().Truncate(time.Second)
	until := from.Add(30*24*time.Hour + time.Minute)
	ca, _ := signed(t, &x509.Certificate{SerialNumber: big.NewInt(0xa1b2c), Subject: pkix.Name{CommonName: "ca"}, NotBefore: from, NotAfter: from.Add(time.Minute)})
	leaf, key := signed(t, &x509.Certificate{
		SerialNumber: big.NewInt(0xf), NotBefore: from, NotAfter: until, EmailAddresses: []string{"me@x.test"}, DNSNames: []string{"a.test"},
		URIs: []*url.URL{{Scheme: "spiffe", Host: "td", Path: "/x"}}, IPAddresses: []net.IP{net.ParseIP("10.0.0.1"), net.ParseIP("2001:db8::1")},
	})
	own, err := secret.NewCertificate([]*x509.Certificate{leaf, ca}, key)
	if err != nil {
		t.Fatal(err)
	}
	own.Path = "/etc/chain.pem"
	own.Staple = &secret.Staple{ThisUpdate: from, NextUpdate: until}
	r := start(t, nil)
	r.srv.cfg.Source = withContexts{r.proc, []secret.InUse{
		{Certificates: []*secret.Certificate{own}, Validation: &secret.Validation{CAs: []*x509.Certificate{ca}}}, {},
	}}
	_, body := r.do("GET", "/certs")
	a, z := from.Format(time.RFC3339), until.Format(time.RFC3339)
	want := `{"certificates": [{
	"ca_cert": [{"path": "<inline>", "serial_number": "0a1b2c", "subject_alt_names": [], "days_until_expiration": "0",
		"valid_from": "` + a + `", "expiration_time": "` + from.Add(time.Minute).Format(time.RFC3339) + `"}],
	"cert_chain": [{"path": "/etc/chain.pem", "serial_number": "0f",
		"subject_alt_names": [{"dns": "a.test"}, {"uri": "spiffe://td/x"}, {"ip_address": "10.0.0.1"}, {"ip_address": "2001:db8::1"}],
		"days_until_expiration": "29", "valid_from": "` + a + `", "expiration_time": "` + z + `",
		"ocsp_details": {"valid_from": "` + a + `", "expiration": "` + z + `"}}]
	}, {"ca_cert": [], "cert_chain": []}]}`
	var got, expected any
	if err := errors.Join(json.Unmarshal([]byte(body), &got), json.Unmarshal([]byte(want), &expected)); err != nil || !reflect.DeepEqual(got, expected) {
		t.Errorf("%v, got %s", err, body)
	}
	scalar, err := key.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"/certs", "/stats", "/server_info", "/config_dump"} {
		_, body := r.do("GET", path)
		for _, k := range [][]byte{scalar, pkcs8} {
			for _, text := range []string{base64.StdEncoding.EncodeToString(k), hex.EncodeToString(k), string(k)} {
				if strings.Contains(strings.ToLower(body), strings.ToLower(text)) {
					t.Errorf("%s shows the private key", path)
				}
			}
		}
		if strings.Contains(body, "PRIVATE KEY") {
			t.Errorf("%s shows a private key", path)
		}
	}
}
