package transport

import (
	"bytes"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/mecha-mesh/mecha/proxy/meta"
	"github.com/mecha-mesh/mecha/proxy/secret"
	"github.com/mecha-mesh/mecha/proxy/stats"
)

// defaultDepth is the most intermediates where none is configured.
const defaultDepth = 100

// verifyError is why a certificate was not accepted, in Envoy's words.
type verifyError struct{ text string }

func (e *verifyError) Error() string { return e.text }

// rules decide on the certificates of peers. They are made of a secret.Validation once,
// and of the names that one connection asks for each time.
type rules struct {
	*secret.Validation
	roots   *x509.CertPool // nil: the chain is not verified
	domains map[string]*x509.CertPool
	usage   x509.ExtKeyUsage
}

// newRules compiles v, which may be nil, for peers that are servers or clients.
func newRules(v *secret.Validation, usage x509.ExtKeyUsage) (*rules, error) {
	r := &rules{Validation: v, usage: usage}
	if v == nil {
		r.Validation = &secret.Validation{}
		return r, nil
	}
	if v.Domains != nil {
		r.domains = map[string]*x509.CertPool{}
		for name, d := range v.Domains {
			r.domains[name] = pool(nil, d.CAs, v.Expired)
		}
		return r, nil
	}
	if len(v.CAs) == 0 && !v.Systems {
		return r, nil
	}
	var base *x509.CertPool
	if v.Systems {
		var err error
		if base, err = x509.SystemCertPool(); err != nil {
			return nil, err
		}
	}
	r.roots = pool(base, v.CAs, v.Expired)
	return r, nil
}

func pool(base *x509.CertPool, cas []*x509.Certificate, lasting bool) *x509.CertPool {
	p := base
	if p == nil {
		p = x509.NewCertPool()
	}
	for _, c := range cas {
		p.AddCert(timeless(c, lasting))
	}
	return p
}

// timeless returns c so that no time is before or after it, if on.
func timeless(c *x509.Certificate, on bool) *x509.Certificate {
	if !on {
		return c
	}
	t := *c
	t.NotBefore, t.NotAfter = time.Time{}, time.Unix(1<<40, 0)
	return &t
}

// verifier verifies the peer of one connection.
type verifier struct {
	*rules
	stats *TLSStats
	// names, if not nil, is in place of the configured matchers: one of them must be a name
	// of the certificate.
	names     []string
	host      string // in place of the matchers, too: this must be one of its DNS names
	server    bool   // we are it
	validated bool
}

// verify is tls.Config.VerifyConnection. It runs for resumed sessions, too: what is
// trusted may have changed since.
func (v *verifier) verify(s tls.ConnectionState) error {
	certs := s.PeerCertificates
	if len(certs) == 0 {
		return nil // package crypto/tls has asked for one if it is required
	}
	if err := keyUsage(certs[0], s, v.server); err != nil {
		return err
	}
	err := v.chain(certs)
	checked := err == nil && (v.roots != nil || v.domains != nil)
	if err == nil {
		var named bool
		named, err = v.leaf(certs[0])
		checked = (checked || named) && err == nil
	}
	if err != nil && v.Anything {
		err, checked = nil, false
	}
	v.validated = checked
	return err
}

func (v *verifier) refuse(c *stats.Counter, format string, args ...any) error {
	c.Inc()
	return &verifyError{"verify cert failed: " + fmt.Sprintf(format, args...)}
}

// chain verifies that the certificates lead to something trusted.
func (v *verifier) chain(certs []*x509.Certificate) error {
	roots := v.roots
	if v.domains != nil {
		domain, err := v.domain(certs[0])
		if err != nil {
			return err
		}
		roots = domain
	}
	if roots == nil {
		return nil
	}
	o := x509.VerifyOptions{Roots: roots, Intermediates: x509.NewCertPool(), KeyUsages: []x509.ExtKeyUsage{v.usage}}
	for _, c := range certs[1:] {
		o.Intermediates.AddCert(timeless(c, v.Expired))
	}
	chains, err := timeless(certs[0], v.Expired).Verify(o)
	if err == nil {
		err = v.acceptable(chains)
	}
	if err != nil {
		v.stats.FailError.Inc()
		return &verifyError{"verify cert failed: " + chainFailure(certs, err)}
	}
	return nil
}

// acceptable looks for a chain that is short enough and of which nothing is revoked.
func (v *verifier) acceptable(chains [][]*x509.Certificate) (err error) {
	depth := uint32(defaultDepth)
	if v.MaxDepth != nil {
		depth = *v.MaxDepth
	}
	for _, chain := range chains {
		if len(chain) > 2 && uint32(len(chain)-2) > depth {
			err = tooDeep(depth)
			continue
		}
		if err = v.revoked(chain); err == nil {
			return nil
		}
	}
	return err
}

// tooDeep is a chain with more intermediates than this.
type tooDeep uint32

func (d tooDeep) Error() string { return "unable to get local issuer certificate" }

const byList = "certificate revocation check against provided CRLs failed: "

// revoked looks a chain up in the lists of its issuers: every certificate below the
// anchor must have one.
func (v *verifier) revoked(chain []*x509.Certificate) error {
	if len(v.CRLs) == 0 {
		return nil
	}
	below := chain[:max(len(chain)-1, 1)]
	if v.LeafCRL {
		below = below[:1]
	}
	for i, c := range below {
		issuer := chain[min(i+1, len(chain)-1)]
		found := false
		for _, l := range v.CRLs {
			if !bytes.Equal(l.RawIssuer, c.RawIssuer) || l.CheckSignatureFrom(issuer) != nil {
				continue
			}
			found = true
			if slices.ContainsFunc(l.RevokedCertificateEntries, func(e x509.RevocationListEntry) bool {
				return e.SerialNumber.Cmp(c.SerialNumber) == 0
			}) {
				return errors.New(byList + "certificate revoked")
			}
			if now := time.Now(); now.Before(l.ThisUpdate) || !l.NextUpdate.IsZero() && now.After(l.NextUpdate) {
				return errors.New(byList + "CRL has expired")
			}
		}
		if !found {
			return errors.New(byList + "unable to get certificate CRL")
		}
	}
	return nil
}

// leaf verifies the names and pins of the peer's own certificate. It reports whether there
// was anything to verify.
func (v *verifier) leaf(c *x509.Certificate) (checked bool, err error) {
	switch {
	case v.names != nil:
		if !anyName(c, v.names) {
			return true, v.refuse(&v.stats.FailSAN, "verify SAN list")
		}
		checked = true
	case v.host != "":
		if !anyName(c, []string{v.host}, meta.DNSName) {
			return true, v.unnamed(c)
		}
		checked = true
	case len(v.SANs) > 0:
		if !matchesSAN(c, v.SANs) {
			return true, v.unnamed(c)
		}
		checked = true
	}
	if v.domains == nil && len(v.Hashes)+len(v.SPKIs) > 0 {
		if !slices.Contains(v.Hashes, sha256.Sum256(c.Raw)) && !slices.Contains(v.SPKIs, sha256.Sum256(c.RawSubjectPublicKeyInfo)) {
			return true, v.refuse(&v.stats.FailHash, "cert hash and spki")
		}
		checked = true
	}
	return checked, nil
}

func (v *verifier) unnamed(c *x509.Certificate) error {
	if v.domains != nil {
		return v.refuse(&v.stats.FailSAN, "SAN match")
	}
	return v.refuse(&v.stats.FailSAN, "SAN matcher, certificate SANs are [%s]", allNames(c))
}

// domain returns what the SPIFFE trust domain of a certificate trusts.
func (v *verifier) domain(c *x509.Certificate) (*x509.CertPool, error) {
	if c.IsCA || c.KeyUsage&(x509.KeyUsageCertSign|x509.KeyUsageCRLSign) != 0 {
		return nil, v.refuse(&v.stats.FailError, "SPIFFE precheck failed")
	}
	for _, n := range meta.AltNames(c) {
		if n.Kind != meta.URIName {
			continue
		}
		u, err := url.Parse(n.Text)
		if err != nil || u.Scheme != "spiffe" || u.Host == "" {
			continue
		}
		if p := v.domains[u.Host]; p != nil {
			return p, nil
		}
	}
	return nil, v.refuse(&v.stats.FailError, "no trust bundle store")
}

// keyUsage refuses certificates that are not for what they are used for: to sign, or for
// servers in the oldest suites of TLS 1.2 to encrypt.
func keyUsage(c *x509.Certificate, s tls.ConnectionState, peerIsClient bool) error {
	need := x509.KeyUsageDigitalSignature
	if !peerIsClient && s.Version < tls.VersionTLS13 && strings.HasPrefix(tls.CipherSuiteName(s.CipherSuite), "TLS_RSA_") {
		need = x509.KeyUsageKeyEncipherment
	}
	if c.KeyUsage != 0 && c.KeyUsage&need == 0 {
		return errors.New("KEY_USAGE_BIT_INCORRECT")
	}
	return nil
}

// chainFailure puts a failure into the words of BoringSSL.
func chainFailure(certs []*x509.Certificate, err error) string {
	depth, text := 0, err.Error()
	var invalid x509.CertificateInvalidError
	var deep tooDeep
	switch {
	case errors.As(err, &deep):
		depth = int(deep) + 1
	case errors.As(err, new(x509.UnknownAuthorityError)):
		depth, text = unknownAuthority(certs)
	case errors.As(err, &invalid):
		depth = max(slices.IndexFunc(certs, func(c *x509.Certificate) bool { return invalid.Cert != nil && bytes.Equal(c.Raw, invalid.Cert.Raw) }), 0)
		switch invalid.Reason {
		case x509.Expired:
			text = "certificate has expired"
			if time.Now().Before(invalid.Cert.NotBefore) {
				text = "certificate is not yet valid"
			}
		case x509.IncompatibleUsage:
			text = "unsupported certificate purpose"
		case x509.TooManyIntermediates:
			text = "path length constraint exceeded"
		case x509.NotAuthorizedToSign:
			text = "invalid CA certificate"
		}
	}
	return fmt.Sprintf("X509_verify_cert: certificate verification error at depth %d: %s", depth, text)
}

// unknownAuthority follows the chain as far as it goes.
func unknownAuthority(certs []*x509.Certificate) (depth int, text string) {
	at := certs[0]
	for depth < len(certs) {
		if bytes.Equal(at.RawIssuer, at.RawSubject) {
			if depth == 0 {
				return 0, "self signed certificate"
			}
			return depth, "self signed certificate in certificate chain"
		}
		i := slices.IndexFunc(certs, func(c *x509.Certificate) bool { return bytes.Equal(c.RawSubject, at.RawIssuer) })
		if i < 0 {
			break
		}
		at = certs[i]
		depth++
	}
	return depth, "unable to get local issuer certificate"
}
