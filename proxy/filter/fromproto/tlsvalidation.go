package fromproto

import (
	"crypto/x509"
	"encoding/asn1"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"

	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/meta"
	"github.com/mecha-mesh/mecha/proxy/secret"
	"github.com/mecha-mesh/mecha/proxy/transport"
)

// spiffeValidator is the custom validator of this build.
const spiffeValidator = "envoy.extensions.transport_sockets.tls.v3.SPIFFECertValidatorConfig"

// TLSValidation converts a CertificateValidationContext. Files are read now. Whether it
// is safe on its own is for Validation.Check: it may be a part of a combined one.
func TLSValidation(pb *tlsv3.CertificateValidationContext, p *filter.Parser) (*secret.Validation, error) {
	err := Check(pb, p, Fields{
		Used: []string{
			"trusted_ca", "system_root_certs", "watched_directory", "verify_certificate_spki", "verify_certificate_hash",
			"match_typed_subject_alt_names", "match_subject_alt_names", "crl", "allow_expired_certificate",
			"trust_chain_verification", "custom_validator_config", "only_verify_leaf_cert_crl", "max_verify_depth",
			"suppress_client_ca_list",
		},
	})
	if err != nil {
		return nil, err
	}
	v := &secret.Validation{
		Systems: pb.SystemRootCerts != nil, LeafCRL: pb.OnlyVerifyLeafCertCrl, Expired: pb.AllowExpiredCertificate,
		Anything: pb.TrustChainVerification == tlsv3.CertificateValidationContext_ACCEPT_UNTRUSTED,
		HideCAs:  pb.SuppressClientCaList,
	}
	if d := pb.MaxVerifyDepth; d != nil {
		if d.Value > 100 {
			return nil, filter.At("max_verify_depth", fmt.Errorf("%d is more than 100", d.Value))
		}
		v.MaxDepth = &d.Value
	}
	if pb.TrustedCa != nil {
		if v.CAs, err = authorities(pb.TrustedCa); err != nil {
			return nil, filter.At("trusted_ca", err)
		}
		v.CAPath = pb.TrustedCa.GetFilename()
	}
	if pb.Crl != nil {
		if v.CRLs, err = revocations(pb.Crl); err != nil {
			return nil, filter.At("crl", err)
		}
	}
	if err := pins(pb, v); err != nil {
		return nil, err
	}
	if v.SANs, err = sans(pb); err != nil {
		return nil, err
	}
	return v, filter.At("custom_validator_config", customValidator(pb.CustomValidatorConfig, v, p))
}

func authorities(pb *corev3.DataSource) ([]*x509.Certificate, error) {
	text, err := Bytes(pb, maxSecret)
	if err != nil {
		return nil, err
	}
	return certificates(text)
}

func revocations(pb *corev3.DataSource) (out []*x509.RevocationList, err error) {
	text, err := Bytes(pb, maxSecret)
	if err != nil {
		return nil, err
	}
	for b := range pemBlocks(text, "X509 CRL") {
		l, err := x509.ParseRevocationList(b.Bytes)
		if err != nil {
			return nil, fmt.Errorf("list %d: %w", len(out), err)
		}
		out = append(out, l)
	}
	if len(out) == 0 {
		return nil, errors.New("has no certificate revocation list in PEM form")
	}
	return out, nil
}

// pins reads hashes of certificates (hexadecimal, with or without colons) and of their
// keys (base64).
func pins(pb *tlsv3.CertificateValidationContext, v *secret.Validation) error {
	for i, s := range pb.VerifyCertificateHash {
		b, err := hex.DecodeString(strings.ReplaceAll(s, ":", ""))
		if err != nil || len(b) != 32 {
			return filter.AtIndex("verify_certificate_hash", i, fmt.Errorf("invalid hex-encoded SHA-256 %q", s))
		}
		v.Hashes = append(v.Hashes, [32]byte(b))
	}
	for i, s := range pb.VerifyCertificateSpki {
		b, err := base64.StdEncoding.DecodeString(s)
		if err != nil || len(b) != 32 {
			return filter.AtIndex("verify_certificate_spki", i, fmt.Errorf("invalid base64-encoded SHA-256 %q", s))
		}
		v.SPKIs = append(v.SPKIs, [32]byte(b))
	}
	return nil
}

func sans(pb *tlsv3.CertificateValidationContext) (out []secret.SAN, err error) {
	for i, m := range pb.MatchTypedSubjectAltNames {
		s, err := san(m)
		if err != nil {
			return nil, filter.AtIndex("match_typed_subject_alt_names", i, err)
		}
		out = append(out, s)
	}
	if len(out) > 0 {
		return out, nil // the deprecated field counts only without the new one
	}
	for i, m := range pb.MatchSubjectAltNames { //nolint:staticcheck // deprecated, and still sent
		text, err := String(m)
		if err != nil {
			return nil, filter.AtIndex("match_subject_alt_names", i, err)
		}
		out = append(out, secret.SAN{Kind: secret.AnySAN, Text: text, Exact: m.GetExact()})
	}
	return out, nil
}

// NameOfCertificate converts a SubjectAltNameMatcher to what tells whether a certificate
// has such a name.
func NameOfCertificate(pb *tlsv3.SubjectAltNameMatcher) (func(*meta.Described) bool, error) {
	s, err := san(pb)
	if err != nil {
		return nil, err
	}
	return func(d *meta.Described) bool { return transport.HasName(d.Names, &s) }, nil
}

func san(m *tlsv3.SubjectAltNameMatcher) (s secret.SAN, err error) {
	if s.Text, err = String(m.Matcher); err != nil {
		return s, filter.At("matcher", err)
	}
	switch m.SanType {
	case tlsv3.SubjectAltNameMatcher_EMAIL:
		s.Kind = secret.EmailSAN
	case tlsv3.SubjectAltNameMatcher_DNS:
		s.Kind, s.Exact = secret.DNSSAN, m.Matcher.GetExact()
	case tlsv3.SubjectAltNameMatcher_URI:
		s.Kind = secret.URISAN
	case tlsv3.SubjectAltNameMatcher_IP_ADDRESS:
		s.Kind = secret.IPSAN
	case tlsv3.SubjectAltNameMatcher_OTHER_NAME:
		s.Kind = secret.OtherSAN
		s.OID, err = objectID(m.Oid)
		return s, filter.At("oid", err)
	default:
		return s, filter.At("san_type", fmt.Errorf("%v is not a type of subject alternative names", m.SanType))
	}
	return s, nil
}

func objectID(text string) (id asn1.ObjectIdentifier, err error) {
	for part := range strings.SplitSeq(text, ".") {
		n, err := strconv.ParseUint(part, 10, 31)
		if err != nil {
			return nil, fmt.Errorf("%q is not an object identifier", text)
		}
		id = append(id, int(n))
	}
	if len(id) < 2 {
		return nil, fmt.Errorf("%q is not an object identifier", text)
	}
	return id, nil
}

func customValidator(pb *corev3.TypedExtensionConfig, v *secret.Validation, p *filter.Parser) error {
	if pb == nil {
		return nil
	}
	c, err := Any(pb.TypedConfig)
	if err != nil {
		return filter.At("typed_config", err)
	}
	if c.Type != spiffeValidator {
		return filter.At("typed_config", fmt.Errorf("this build does not support the certificate validator %q", c.Type))
	}
	var s tlsv3.SPIFFECertValidatorConfig
	if err = Unmarshal(c.Value, &s); err == nil {
		v.Domains, err = trustDomains(&s, p)
	}
	return filter.At("typed_config", err)
}

func trustDomains(pb *tlsv3.SPIFFECertValidatorConfig, p *filter.Parser) (map[string]*secret.Domain, error) {
	if err := Check(pb, p, Fields{Used: []string{"trust_domains", "trust_bundles"}}); err != nil {
		return nil, err
	}
	if pb.TrustBundles != nil {
		out, err := trustBundles(pb.TrustBundles)
		return out, filter.At("trust_bundles", err)
	}
	out := map[string]*secret.Domain{}
	for i, d := range pb.TrustDomains {
		at := func(err error) error { return filter.AtIndex("trust_domains", i, err) }
		if err := Check(d, p, Fields{Used: []string{"name", "trust_bundle"}}); err != nil {
			return nil, at(err)
		}
		if out[d.Name] != nil || d.Name == "" {
			return nil, at(filter.At("name", fmt.Errorf("%q is empty or there twice", d.Name)))
		}
		cas, err := authorities(d.TrustBundle)
		if err != nil {
			return nil, at(filter.At("trust_bundle", err))
		}
		out[d.Name] = &secret.Domain{CAs: cas, Path: d.TrustBundle.GetFilename()}
	}
	if len(out) == 0 {
		return nil, filter.At("trust_domains", errors.New("SPIFFE certificate validator needs at least one trust domain"))
	}
	return out, nil
}

// trustBundles reads a map of trust domains to SPIFFE bundles.
func trustBundles(pb *corev3.DataSource) (map[string]*secret.Domain, error) {
	text, err := Bytes(pb, maxSecret)
	if err != nil {
		return nil, err
	}
	var doc struct {
		Domains map[string]struct {
			Keys []struct {
				Use string   `json:"use"`
				X5C []string `json:"x5c"`
			} `json:"keys"`
		} `json:"trust_domains"`
	}
	if err := json.Unmarshal([]byte(text), &doc); err != nil {
		return nil, fmt.Errorf("is not a SPIFFE bundle map: %w", err)
	}
	out := map[string]*secret.Domain{}
	for name, d := range doc.Domains {
		dom := &secret.Domain{Path: pb.GetFilename()}
		for _, k := range d.Keys {
			if k.Use != "x509-svid" {
				continue // of tokens
			}
			for _, c := range k.X5C {
				der, err := base64.StdEncoding.DecodeString(c)
				if err != nil {
					return nil, filter.At(name, fmt.Errorf("x5c: %w", err))
				}
				ca, err := x509.ParseCertificate(der)
				if err != nil {
					return nil, filter.At(name, fmt.Errorf("x5c: %w", err))
				}
				dom.CAs = append(dom.CAs, ca)
			}
		}
		if len(dom.CAs) == 0 {
			return nil, filter.At(name, errors.New("no certificate of use x509-svid"))
		}
		out[name] = dom
	}
	if len(out) == 0 {
		return nil, errors.New("no trust domain")
	}
	return out, nil
}
