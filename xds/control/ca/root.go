package ca

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"math/big"
	"net/url"
	"slices"
	"time"
)

// root is one root certificate. Immutable but for key and longest, which belong to
// the authority's lock.
type root struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey // nil once it signs no more
	// signsFrom is when the first certificate is signed with it.
	signsFrom time.Time
	// longest is the longest life of a certificate that may have been signed with it.
	longest time.Duration
}

// trustedUntil is how long a root is trusted that next follows: until the last certificate
// that it may have signed has expired.
func (r *root) trustedUntil(next *root) time.Time {
	t := next.signsFrom.Add(r.longest + skew)
	if t.After(r.cert.NotAfter) {
		return r.cert.NotAfter
	}
	return t
}

// renewAt is when a root has to be followed by another: with a fifth of its life left.
func renewAt(r *root) time.Time {
	return r.cert.NotAfter.Add(-r.cert.NotAfter.Sub(r.cert.NotBefore) / 5)
}

// signer is the root that signs now.
func signer(roots []*root, now time.Time) *root {
	for _, r := range slices.Backward(roots) {
		if r.key != nil && !now.Before(r.signsFrom) {
			return r
		}
	}
	return roots[len(roots)-1] // its time comes within the skew of the clock
}

// due returns what the roots are to be now, and whether that has to be stored.
func (a *Authority) due(stored []*root, now time.Time, rotate bool) (roots []*root, dirty bool, err error) {
	for i, r := range stored {
		last := i == len(stored)-1
		switch {
		case !now.Before(r.cert.NotAfter):
			dirty = true
			a.log.Warn("a root has expired", "serial", r.cert.SerialNumber.Text(16))
			continue
		case !last && !now.Before(r.trustedUntil(stored[i+1])):
			dirty = true
			a.log.Info("a root is not needed any more", "serial", r.cert.SerialNumber.Text(16))
			continue
		case !last && r.key != nil && !now.Before(stored[i+1].signsFrom):
			dirty = true
			r.key = nil
			a.log.Info("a root signs no more, its key is destroyed", "serial", r.cert.SerialNumber.Text(16))
		}
		if r.key != nil && r.longest < a.o.TTL {
			r.longest, dirty = a.o.TTL, true
		}
		roots = append(roots, r)
	}
	signs := now
	if n := len(roots); n > 0 {
		newest := roots[n-1]
		if now.Before(newest.signsFrom) || !rotate && now.Before(renewAt(newest)) {
			return roots, dirty, nil
		}
		signs = now.Add(a.o.Overlap)
		if a.o.Overlap == 0 {
			signs = now.Add(newest.longest)
		}
	}
	r, err := a.newRoot(now, signs)
	if err != nil {
		return nil, false, err
	}
	a.log.Info("a root was made", "serial", r.cert.SerialNumber.Text(16), "until", r.cert.NotAfter, "signs_from", signs)
	return append(roots, r), true, nil
}

// newRoot makes a root. It may sign certificates of workloads and nothing else.
func (a *Authority) newRoot(now, signs time.Time) (*root, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("ca: make a key: %w", err)
	}
	serial, err := newSerial()
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber: serial,
		// Several roots have one subject; who verifies tells them apart by their key identifiers.
		Subject:   pkix.Name{Organization: []string{a.o.TrustDomain}, CommonName: "mecha root"},
		NotBefore: now.Add(-skew), NotAfter: now.Add(a.o.RootTTL),
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		BasicConstraintsValid: true, IsCA: true, MaxPathLen: 0, MaxPathLenZero: true,
		URIs: []*url.URL{{Scheme: "spiffe", Host: a.o.TrustDomain}},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return nil, fmt.Errorf("ca: make a root: %w", err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("ca: make a root: %w", err)
	}
	return &root{cert: cert, key: key, signsFrom: signs, longest: a.o.TTL}, nil
}

// newSerial is 127 bits of chance: positive, and at most 20 bytes long (RFC 5280, 4.1.2.2).
func newSerial() (*big.Int, error) {
	n, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, fmt.Errorf("ca: make a serial number: %w", err)
	}
	return n.Add(n, big.NewInt(1)), nil
}
