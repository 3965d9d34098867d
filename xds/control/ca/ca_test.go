package ca

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// clock is a time that tests move.
type clock struct{ t time.Time }

func (c *clock) now() time.Time { return c.t }

func open(t *testing.T, dir string, c *clock) *Authority {
	t.Helper()
	a, err := Open(Options{
		Dir: dir, TrustDomain: "shop.test", TTL: time.Hour, Overlap: 2 * time.Hour, RootTTL: 100 * time.Hour, Now: c.now,
	})
	if err != nil {
		t.Fatal(err)
	}
	return a
}

var orders = Identity{"shop", "orders"}

func parse(t *testing.T, c *Certificate) *x509.Certificate {
	t.Helper()
	pair, err := tls.X509KeyPair(c.Chain, c.Key)
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := pair.PrivateKey.(*ecdsa.PrivateKey); !ok || len(pair.Certificate) != 1 {
		t.Errorf("key %T, %d certificates", pair.PrivateKey, len(pair.Certificate))
	}
	return pair.Leaf
}

// verify checks a certificate as a peer does that has a bundle of some moment.
func verify(bundle []byte, cert *x509.Certificate, at time.Time) error {
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(bundle)
	_, err := cert.Verify(x509.VerifyOptions{Roots: pool, CurrentTime: at, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth}})
	return err
}

func TestCertificates(t *testing.T) {
	c := &clock{time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)}
	a := open(t, filepath.Join(t.TempDir(), "ca"), c)
	one, err := a.Issue(orders)
	if err != nil {
		t.Fatal(err)
	}
	cert := parse(t, one)
	if err := verify(a.Bundle(), cert, c.t); err != nil {
		t.Error(err)
	}
	if id := idOf(cert); id != "spiffe://shop.test/ns/shop/sa/orders" {
		t.Errorf("identity %q", id)
	}
	switch {
	case cert.IsCA || !cert.BasicConstraintsValid:
		t.Error("a workload could sign")
	case cert.KeyUsage != x509.KeyUsageDigitalSignature:
		t.Errorf("key usage %b", cert.KeyUsage)
	case len(cert.ExtKeyUsage) != 2:
		t.Errorf("extended key usage %v", cert.ExtKeyUsage)
	case !cert.NotBefore.Equal(c.t.Add(-time.Minute)) || !cert.NotAfter.Equal(c.t.Add(time.Hour)):
		t.Errorf("from %v to %v", cert.NotBefore, cert.NotAfter)
	case cert.SerialNumber.Sign() <= 0 || cert.SerialNumber.BitLen() > 159:
		t.Errorf("serial %v", cert.SerialNumber)
	case len(cert.DNSNames)+len(cert.IPAddresses)+len(cert.EmailAddresses) != 0:
		t.Error("it has other names")
	}
	for _, e := range cert.Extensions {
		if e.Id.String() == "2.5.29.17" && !e.Critical {
			t.Error("subjectAltName of a certificate without a subject is not critical")
		}
	}
	block, _ := pem.Decode(a.Bundle())
	root, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	if !root.IsCA || !root.MaxPathLenZero || root.KeyUsage != x509.KeyUsageCertSign|x509.KeyUsageCRLSign || idOf(root) != "spiffe://shop.test" {
		t.Errorf("root: %+v", root)
	}
	two, err := a.Issue(orders)
	if err != nil || bytes.Equal(two.Key, one.Key) || two.Serial == one.Serial {
		t.Errorf("the second is not another one: %v", err)
	}
	for _, chance := range []float64{0, 0.5, 1} {
		if left := one.NotAfter.Sub(one.RenewAt(chance)); left < 30*time.Minute || left > 36*time.Minute {
			t.Errorf("renewed with %v left", left)
		}
	}
	if err := verify(a.Bundle(), cert, c.t.Add(61*time.Minute)); err == nil {
		t.Error("it does not expire")
	}
}

func TestNamesThatAreNone(t *testing.T) {
	a := open(t, filepath.Join(t.TempDir(), "ca"), &clock{time.Now()})
	for _, id := range []Identity{{}, {"a", ""}, {"", "a"}, {"a", "../b"}, {"a", ".."}, {"a/sa/b", "c"}, {"a", "b?c"}, {"a", "b%2f"}, {"a", "b c"}, {"ä", "b"}, {"a", strings.Repeat("x", 300)}} {
		if _, err := a.Issue(id); err == nil {
			t.Errorf("%+v got a certificate", id)
		}
	}
	for _, td := range []string{"", "Shop", "a/b", "a:80", "..", "user@a"} {
		if CheckTrustDomain(td) == nil {
			t.Errorf("trust domain %q", td)
		}
	}
	if id, err := ParseIdentity("shop/orders"); err != nil || id != orders {
		t.Errorf("%v, %v", id, err)
	}
	if _, err := ParseIdentity("shop"); err == nil {
		t.Error("half an identity")
	}
}

// TestRestart: the root survives, in a file for the owner alone.
func TestRestart(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "ca")
	c := &clock{time.Now()}
	a := open(t, dir, c)
	one, err := a.Issue(orders)
	if err != nil {
		t.Fatal(err)
	}
	files, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if info, err := f.Info(); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", f.Name(), info.Mode(), err)
		}
	}
	if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	b := open(t, dir, c)
	if !bytes.Equal(a.Bundle(), b.Bundle()) {
		t.Error("another root")
	}
	if err := verify(b.Bundle(), parse(t, one), c.t); err != nil {
		t.Error(err)
	}
	if _, err := Open(Options{Dir: dir, TrustDomain: "other.test"}); err == nil || !strings.Contains(err.Error(), "trust domain") {
		t.Errorf("another trust domain: %v", err)
	}
	path := filepath.Join(dir, rootsFile)
	if err := os.Chmod(path, 0o640); err != nil {
		t.Fatal(err)
	}
	if _, err := a.Advance(); err == nil || !strings.Contains(err.Error(), "others than the owner may read") {
		t.Errorf("a key that others may read: %v", err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := a.Advance(); err == nil || !strings.Contains(err.Error(), "chmod 700") {
		t.Errorf("a directory that others may enter: %v", err)
	}
}

func TestBrokenStore(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "ca")
	open(t, dir, &clock{time.Now()})
	path := filepath.Join(dir, rootsFile)
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	other := filepath.Join(t.TempDir(), "ca")
	open(t, other, &clock{time.Now()})
	foreign, err := os.ReadFile(filepath.Join(other, rootsFile))
	if err != nil {
		t.Fatal(err)
	}
	key := func(s []byte) string {
		_, rest, _ := strings.Cut(string(s), `"private_key": "`)
		k, _, _ := strings.Cut(rest, `"`)
		return k
	}
	for name, text := range map[string]string{
		"empty":         "",
		"no roots":      `{"roots": []}`,
		"no key":        strings.Replace(string(good), key(good), "", 1),
		"wrong key":     strings.Replace(string(good), key(good), key(foreign), 1),
		"broken key":    strings.Replace(string(good), key(good), "-----BEGIN PRIVATE KEY-----\\nc2VjcmV0\\n-----END PRIVATE KEY-----\\n", 1),
		"no PEM":        strings.Replace(string(good), "BEGIN CERT", "BEGIN", 1),
		"no end of TTL": strings.Replace(string(good), "1h0m0s", "soon", 1),
	} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := Open(Options{Dir: dir, TrustDomain: "shop.test"})
		if err == nil || strings.Contains(err.Error(), "c2VjcmV0") || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestRootRotation walks through the life of two roots: at every moment, whoever has the
// bundle of then or of up to an overlap before accepts every certificate that is valid.
func TestRootRotation(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "ca")
	c := &clock{time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)}
	a := open(t, dir, c)
	type moment struct {
		at     time.Time
		bundle []byte
		cert   *x509.Certificate
	}
	var history []moment
	signers, most, announced := map[string]bool{}, 0, a.NextChange()
	keys := func() int {
		text, err := os.ReadFile(filepath.Join(dir, rootsFile))
		if err != nil {
			t.Fatal(err)
		}
		return strings.Count(string(text), "PRIVATE KEY-----\\n") / 2
	}
	for range 2 * 24 * 10 { // ten days in steps of a half hour: several roots of a hundred hours
		c.t = c.t.Add(30 * time.Minute)
		if len(history) == 20 { // by hand once
			if err := a.RotateRoot(); err != nil {
				t.Fatal(err)
			}
			if err := a.RotateRoot(); err == nil {
				t.Error("a root that signs nothing yet was replaced")
			}
			announced = c.t
		}
		changed, err := a.Advance()
		if err != nil {
			t.Fatal(err)
		}
		if changed && announced.After(c.t) {
			t.Errorf("a change at %v was announced for %v", c.t, announced)
		}
		announced = a.NextChange()
		one, err := a.Issue(orders)
		if err != nil {
			t.Fatal(err)
		}
		now := moment{c.t, a.Bundle(), parse(t, one)}
		history = append(history, now)
		signers[string(now.cert.AuthorityKeyId)] = true
		most = max(most, bytes.Count(now.bundle, []byte("BEGIN CERT")))
		for _, h := range history[max(0, len(history)-5):] {
			if c.t.Before(h.cert.NotAfter) {
				if err := verify(now.bundle, h.cert, c.t); err != nil {
					t.Fatalf("at %v a certificate of %v is refused: %v", c.t, h.at, err)
				}
			}
			if c.t.Sub(h.at) < 2*time.Hour {
				if err := verify(h.bundle, now.cert, c.t); err != nil {
					t.Fatalf("at %v a new certificate is refused by who knows the roots of %v: %v", c.t, h.at, err)
				}
			}
		}
		if n := keys(); n > 2 || n < 1 {
			t.Fatalf("%d keys are kept", n)
		}
	}
	if len(signers) < 4 || most != 2 {
		t.Errorf("%d roots signed, at most %d were trusted at once", len(signers), most)
	}
}

// TestAwayForLong: a control plane that was off until its root expired makes a new one.
func TestAwayForLong(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "ca")
	c := &clock{time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)}
	old := open(t, dir, c).Bundle()
	c.t = c.t.Add(1000 * time.Hour)
	a := open(t, dir, c)
	one, err := a.Issue(orders)
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Equal(a.Bundle(), old) || verify(a.Bundle(), parse(t, one), c.t) != nil {
		t.Error("the expired root is still in use")
	}
}

// TestTwoProcesses: a command replaces the root while the server runs, which learns of it.
func TestTwoProcesses(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "ca")
	c := &clock{time.Now()}
	server, command := open(t, dir, c), open(t, dir, c)
	if err := command.RotateRoot(); err != nil {
		t.Fatal(err)
	}
	if changed, err := server.Advance(); err != nil || !changed {
		t.Errorf("changed %v, %v", changed, err)
	}
	if !bytes.Equal(server.Bundle(), command.Bundle()) || bytes.Count(server.Bundle(), []byte("BEGIN")) != 2 {
		t.Error("they do not agree")
	}
	if changed, err := server.Advance(); err != nil || changed {
		t.Errorf("nothing happened: changed %v, %v", changed, err)
	}
	c.t = c.t.Add(2 * time.Hour) // the new one signs
	if changed, err := server.Advance(); err != nil || !changed {
		t.Errorf("the signer changes: changed %v, %v", changed, err)
	}
}
