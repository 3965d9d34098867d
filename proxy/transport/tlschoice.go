package transport

import (
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"slices"
	"strings"
	"time"

	"github.com/mecha-mesh/mecha/proxy/secret"
)

// StaplePolicy is ocsp_staple_policy.
type StaplePolicy uint8

// The policies.
const (
	LenientStapling StaplePolicy = iota // a response that is missing or out of date is left out
	StrictStapling                      // one that is out of date refuses the handshake
	MustStaple                          // one that is missing, too
)

// choice finds the certificate for a client: by its SNI, by whether it can do ECDSA, and
// by whether there is an OCSP response where there must be one.
type choice struct {
	certs    []offered
	policy   StaplePolicy
	fullScan bool
}

// offered is a certificate of the server.
type offered struct {
	*secret.Certificate
	names []string // DNS names in lower case, or the common name where there are none
	ecdsa bool
	must  bool // it says that clients must be given an OCSP response (RFC 7633)
}

var oidTLSFeature = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 1, 24}

func newChoice(certs []*secret.Certificate, policy StaplePolicy, fullScan bool) *choice {
	c := &choice{policy: policy, fullScan: fullScan}
	for _, s := range certs {
		leaf := s.Leaf()
		o := offered{Certificate: s, ecdsa: leaf.PublicKeyAlgorithm == x509.ECDSA}
		for _, n := range leaf.DNSNames {
			o.names = append(o.names, strings.ToLower(n))
		}
		if len(o.names) == 0 && leaf.Subject.CommonName != "" {
			o.names = append(o.names, strings.ToLower(leaf.Subject.CommonName))
		}
		o.must = slices.ContainsFunc(leaf.Extensions, func(e pkix.Extension) bool { return e.Id.Equal(oidTLSFeature) })
		c.certs = append(c.certs, o)
	}
	return c
}

// choose returns the certificate for a client and the OCSP response that goes with it.
func (c *choice) choose(hello *tls.ClientHelloInfo, st *TLSStats) (*secret.Certificate, []byte, error) {
	wants := asksForStaple(hello)
	if wants {
		st.StapleRequests.Inc()
	}
	o := c.find(hello)
	staple, ok := c.staple(o, wants, st)
	if !ok {
		return nil, nil, errStaple
	}
	return o.Certificate, staple, nil
}

// find follows Envoy: the exact name, then the wildcard, then, if the first certificate
// is not simply the answer, any; among those the first that fits the client's keys, and
// otherwise the first.
func (c *choice) find(hello *tls.ClientHelloInfo) *offered {
	ec := canECDSA(hello)
	name := strings.ToLower(hello.ServerName)
	if name != "" && len(c.certs) > 1 {
		_, parent, _ := strings.Cut(name, ".")
		for _, want := range []string{name, "*." + parent} {
			if o := c.pick(ec, func(o *offered) bool { return slices.Contains(o.names, want) }); o != nil {
				return o
			}
		}
		if !c.fullScan {
			return &c.certs[0]
		}
	}
	if o := c.pick(ec, func(*offered) bool { return true }); o != nil && (c.fullScan || name == "") {
		return o
	}
	return &c.certs[0]
}

// pick returns the first certificate that ok accepts and whose key the client can do, ECDSA
// before RSA.
func (c *choice) pick(ec bool, ok func(*offered) bool) *offered {
	var other *offered
	for i := range c.certs {
		o := &c.certs[i]
		switch {
		case !ok(o):
		case o.ecdsa == ec:
			return o
		case other == nil && !o.ecdsa:
			other = o
		}
	}
	return other
}

// staple returns the OCSP response, nil for none, or false if there should be one.
func (c *choice) staple(o *offered, wants bool, st *TLSStats) ([]byte, bool) {
	if !wants {
		return nil, true
	}
	valid := o.Staple != nil && !o.Staple.Expired(time.Now())
	policy := c.policy
	if o.must {
		policy = MustStaple
	}
	switch {
	case valid:
		st.StapleResponses.Inc()
		return o.Staple.Raw, true
	case policy == MustStaple, policy == StrictStapling && o.Staple != nil:
		st.StapleFailed.Inc()
		return nil, false
	}
	st.StapleOmitted.Inc()
	return nil, true
}

// extStatusRequest is the extension by which clients ask for OCSP responses (RFC 6066
// section 8).
const extStatusRequest = 5

func asksForStaple(hello *tls.ClientHelloInfo) bool {
	return slices.Contains(hello.Extensions, extStatusRequest)
}

// canECDSA reports whether a client takes certificates with ECDSA keys.
func canECDSA(hello *tls.ClientHelloInfo) bool {
	for _, s := range hello.SignatureSchemes {
		if s == tls.ECDSAWithP256AndSHA256 || s == tls.ECDSAWithP384AndSHA384 || s == tls.ECDSAWithP521AndSHA512 {
			if slices.Contains(hello.SupportedVersions, tls.VersionTLS13) {
				return true
			}
			return slices.ContainsFunc(hello.CipherSuites, func(id uint16) bool {
				return strings.HasPrefix(cipherName(id), "ECDHE-ECDSA-")
			})
		}
	}
	return false
}
