package secret

import (
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"maps"
	"slices"

	"github.com/mecha-mesh/mecha/proxy/match"
)

// Validation says which certificates of the peer are accepted
// (CertificateValidationContext). The zero value asks for nothing.
type Validation struct {
	CAs     []*x509.Certificate // trusted_ca
	CAPath  string              // of the file they are from, "" for inline
	Systems bool                // system_root_certs: what the machine trusts, too
	CRLs    []*x509.RevocationList
	// LeafCRL looks at the leaf only (only_verify_leaf_cert_crl); otherwise each
	// certificate of the chain needs a list of its issuer.
	LeafCRL  bool
	SANs     []SAN      // one of them must match, unless there is none
	Hashes   [][32]byte // SHA-256 of the leaf; with SPKIs, one of both must match
	SPKIs    [][32]byte // SHA-256 of its SubjectPublicKeyInfo
	Expired  bool       // allow_expired_certificate
	Anything bool       // trust_chain_verification: ACCEPT_UNTRUSTED
	// MaxDepth is how many intermediates there may be between leaf and anchor
	// (max_verify_depth); nil is 100.
	MaxDepth *uint32
	HideCAs  bool // suppress_client_ca_list
	// Domains are the trust domains of the SPIFFE validator, by name. If they are set,
	// nothing but SANs counts of what is above.
	Domains map[string]*Domain
}

// Domain is what a SPIFFE trust domain trusts.
type Domain struct {
	CAs  []*x509.Certificate
	Path string // as CAPath
}

// SANKind is the kind of a subject alternative name (SubjectAltNameMatcher.SanType).
type SANKind uint8

// The kinds. AnySAN is that of the deprecated match_subject_alt_names: each of the others
// but OtherName.
const (
	AnySAN SANKind = iota
	EmailSAN
	DNSSAN
	URISAN
	IPSAN
	OtherSAN
)

// SAN matches one kind of subject alternative names.
type SAN struct {
	Kind SANKind
	OID  asn1.ObjectIdentifier // of OtherSAN
	Text match.String
	// Exact is set for a DNSSAN that is compared exactly: then a name "*.example.com" in
	// the certificate covers Exact, too.
	Exact string
}

// Check refuses combinations that would verify less than they seem to, as Envoy does. A
// context that is only a part of a combined one is checked when it is merged.
func (v *Validation) Check() error {
	if len(v.CAs) > 0 || v.Systems || len(v.Domains) > 0 {
		return nil
	}
	switch {
	case len(v.SANs) > 0:
		return errors.New("SAN-based verification of peer certificates without trusted CA is insecure and not allowed")
	case v.Expired:
		return errors.New("certificate validity period is always ignored without trusted CA")
	case len(v.CRLs) > 0:
		return errors.New("a CRL needs a trusted CA")
	}
	return nil
}

// Requires reports whether there is anything to check of a certificate that is shown.
func (v *Validation) Requires() bool {
	return v != nil && (len(v.CAs) > 0 || v.Systems || len(v.SANs) > 0 || len(v.Hashes) > 0 || len(v.SPKIs) > 0 || len(v.Domains) > 0)
}

// Demands reports whether a client without a certificate is refused even where none is
// required: names or pins are asked for, and what is not trusted is not accepted.
func (v *Validation) Demands() bool {
	return v != nil && !v.Anything && len(v.SANs)+len(v.Hashes)+len(v.SPKIs) > 0
}

// Merge returns v completed by with, as combined_validation_context does it: what is set in
// with replaces what v has of that, lists are appended. Either may be nil.
func (v *Validation) Merge(with *Validation) *Validation {
	switch {
	case v == nil:
		return with
	case with == nil:
		return v
	}
	m := *v
	if len(with.CAs) > 0 || with.Systems {
		m.CAs, m.CAPath, m.Systems = with.CAs, with.CAPath, with.Systems
	}
	if len(with.CRLs) > 0 {
		m.CRLs = with.CRLs
	}
	m.SANs = slices.Concat(v.SANs, with.SANs)
	m.Hashes, m.SPKIs = slices.Concat(v.Hashes, with.Hashes), slices.Concat(v.SPKIs, with.SPKIs)
	m.LeafCRL, m.Expired = v.LeafCRL || with.LeafCRL, v.Expired || with.Expired
	m.Anything, m.HideCAs = v.Anything || with.Anything, v.HideCAs || with.HideCAs
	if with.MaxDepth != nil {
		m.MaxDepth = with.MaxDepth
	}
	if with.Domains != nil {
		m.Domains = maps.Clone(with.Domains)
	}
	return &m
}
