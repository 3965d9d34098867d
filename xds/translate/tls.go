package translate

import (
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"

	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/filter/fromproto"
	"github.com/mecha-mesh/mecha/proxy/secret"
	"github.com/mecha-mesh/mecha/proxy/transport"
)

// The TLS contexts.
const (
	downstreamTLS = "envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext"
	upstreamTLS   = "envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext"
)

// maxSessions is the most sessions that a cluster keeps.
const maxSessions = 10_000

func downstreamContext(raw []byte, p *filter.Parser) (transport.Socket, error) {
	var pb tlsv3.DownstreamTlsContext
	if err := fromproto.Unmarshal(raw, &pb); err != nil {
		return nil, err
	}
	err := fromproto.Check(&pb, p, fromproto.Fields{
		Used: []string{
			"common_tls_context", "require_client_certificate", "session_ticket_keys", "session_ticket_keys_sds_secret_config",
			"disable_stateless_session_resumption", "session_timeout", "ocsp_staple_policy", "full_scan_certs_on_sni_mismatch",
			// Sessions are never kept here, only in tickets.
			"disable_stateful_session_resumption",
		},
		// Suites are chosen by what both sides do fast.
		Ignored: []string{"prefer_client_ciphers"},
	})
	if err != nil {
		return nil, err
	}
	t := &transport.DownstreamTLS{
		RequireClientCertificate: pb.RequireClientCertificate.GetValue(), FullScan: pb.FullScanCertsOnSniMismatch.GetValue(),
		NoTickets: pb.GetDisableStatelessSessionResumption(), Staples: transport.StaplePolicy(pb.OcspStaplePolicy),
	}
	if t.TLS, err = commonContext(pb.CommonTlsContext, raw, tls.VersionTLS13, p); err != nil {
		return nil, filter.At("common_tls_context", err)
	}
	if len(t.Certificates) == 0 {
		return nil, filter.At("common_tls_context", errors.New("no TLS certificates found for server context"))
	}
	if t.Staples == transport.MustStaple {
		if err := stapled(t.Certificates); err != nil {
			return nil, filter.At("ocsp_staple_policy", err)
		}
	}
	if t.SessionTimeout, err = fromproto.Duration(pb.SessionTimeout, 0); err != nil {
		return nil, filter.At("session_timeout", err)
	}
	t.SessionTimeout = t.SessionTimeout.Truncate(time.Second)
	switch k := pb.SessionTicketKeysType.(type) {
	case *tlsv3.DownstreamTlsContext_SessionTicketKeys:
		keys, err := fromproto.TicketKeys(k.SessionTicketKeys)
		if err != nil {
			return nil, filter.At("session_ticket_keys", err)
		}
		t.TicketKeys = secret.Static(keys)
	case *tlsv3.DownstreamTlsContext_SessionTicketKeysSdsSecretConfig:
		if t.TicketKeys, err = fromproto.NamedTicketKeys(k.SessionTicketKeysSdsSecretConfig, p); err != nil {
			return nil, filter.At("session_ticket_keys_sds_secret_config", err)
		}
	}
	return t, nil
}

// stapled checks that each certificate that is known has an OCSP response.
func stapled(certs []secret.Source[secret.Certificate]) error {
	for _, c := range certs {
		if v := c.Current(); v != nil && v.Staple == nil {
			return errors.New("required OCSP response is missing from TLS context")
		}
	}
	return nil
}

func upstreamContext(raw []byte, p *filter.Parser) (transport.Socket, error) {
	var pb tlsv3.UpstreamTlsContext
	if err := fromproto.Unmarshal(raw, &pb); err != nil {
		return nil, err
	}
	err := fromproto.Check(&pb, p, fromproto.Fields{
		Used: []string{
			"common_tls_context", "sni", "auto_host_sni", "auto_sni_san_validation", "allow_renegotiation", "max_session_keys",
			"enforce_rsa_key_usage", // always is
		},
	})
	if err != nil {
		return nil, err
	}
	if len(pb.Sni) > 255 {
		return nil, filter.At("sni", errors.New("has more than 255 bytes"))
	}
	t := &transport.UpstreamTLS{
		SNI: pb.Sni, AutoHostSNI: pb.AutoHostSni, AutoSAN: pb.AutoSniSanValidation, Renegotiation: pb.AllowRenegotiation,
		MaxSessions: 1,
	}
	if k := pb.MaxSessionKeys; k != nil {
		t.MaxSessions = int(min(k.Value, maxSessions))
	}
	if t.TLS, err = commonContext(pb.CommonTlsContext, raw, tls.VersionTLS12, p); err != nil {
		return nil, filter.At("common_tls_context", err)
	}
	if len(t.Certificates) > 1 {
		return nil, filter.At("common_tls_context", errors.New("multiple TLS certificates are not supported for client contexts"))
	}
	return t, nil
}

func commonContext(pb *tlsv3.CommonTlsContext, raw []byte, most uint16, p *filter.Parser) (t transport.TLS, err error) {
	sum := sha256.Sum256(raw)
	t.ID = hex.EncodeToString(sum[:])
	t.Min, t.Max, t.Curves = tls.VersionTLS12, most, nil
	if pb == nil {
		t.Curves, err = transport.ParseCurves(nil)
		return t, err
	}
	err = fromproto.Check(pb, p, fromproto.Fields{
		Used: []string{
			"tls_params", "tls_certificates", "tls_certificate_sds_secret_configs", "validation_context",
			"validation_context_sds_secret_config", "combined_validation_context", "alpn_protocols", "key_log",
		},
	})
	if err != nil {
		return t, err
	}
	if err := tlsParameters(pb.TlsParams, &t, p); err != nil {
		return t, filter.At("tls_params", err)
	}
	for i, a := range pb.AlpnProtocols {
		if len(a) == 0 || len(a) > 255 {
			return t, filter.AtIndex("alpn_protocols", i, fmt.Errorf("%q is no protocol name", a))
		}
	}
	t.ALPN = pb.AlpnProtocols
	if err := contextCertificates(pb, &t, p); err != nil {
		return t, err
	}
	if err := contextValidation(pb, &t, p); err != nil {
		return t, err
	}
	t.KeyLog, err = keyLog(pb.KeyLog)
	return t, filter.At("key_log", err)
}

func contextCertificates(pb *tlsv3.CommonTlsContext, t *transport.TLS, p *filter.Parser) error {
	for i, c := range pb.TlsCertificates {
		cert, err := fromproto.TLSCertificate(c)
		if err != nil {
			return filter.AtIndex("tls_certificates", i, err)
		}
		t.Certificates = append(t.Certificates, secret.Static(cert))
	}
	if len(pb.TlsCertificates) > 0 {
		return nil // as in Envoy, the others count only without them
	}
	for i, c := range pb.TlsCertificateSdsSecretConfigs {
		s, err := fromproto.NamedCertificate(c, p)
		if err != nil {
			return filter.AtIndex("tls_certificate_sds_secret_configs", i, err)
		}
		t.Certificates = append(t.Certificates, s)
	}
	return nil
}

func contextValidation(pb *tlsv3.CommonTlsContext, t *transport.TLS, p *filter.Parser) (err error) {
	switch v := pb.ValidationContextType.(type) {
	case *tlsv3.CommonTlsContext_ValidationContext:
		if t.ValidationBase, err = fromproto.TLSValidation(v.ValidationContext, p); err == nil {
			err = t.ValidationBase.Check()
		}
		return filter.At("validation_context", err)
	case *tlsv3.CommonTlsContext_ValidationContextSdsSecretConfig:
		t.Validation, err = fromproto.NamedValidation(v.ValidationContextSdsSecretConfig, p)
		return filter.At("validation_context_sds_secret_config", err)
	case *tlsv3.CommonTlsContext_CombinedValidationContext:
		c := v.CombinedValidationContext
		err = fromproto.Check(c, p, fromproto.Fields{Used: []string{"default_validation_context", "validation_context_sds_secret_config"}})
		if err == nil {
			t.ValidationBase, err = fromproto.TLSValidation(c.DefaultValidationContext, p)
			err = filter.At("default_validation_context", err)
		}
		if err == nil {
			t.Validation, err = fromproto.NamedValidation(c.ValidationContextSdsSecretConfig, p)
			err = filter.At("validation_context_sds_secret_config", err)
		}
		return filter.At("combined_validation_context", err)
	}
	return nil
}

func tlsParameters(pb *tlsv3.TlsParameters, t *transport.TLS, p *filter.Parser) error {
	err := error(nil)
	if pb != nil {
		err = fromproto.Check(pb, p, fromproto.Fields{
			Used: []string{"tls_minimum_protocol_version", "tls_maximum_protocol_version", "cipher_suites", "ecdh_curves"},
		})
	}
	if err != nil {
		return err
	}
	if t.Min, err = tlsVersion(pb.GetTlsMinimumProtocolVersion(), t.Min); err != nil {
		return filter.At("tls_minimum_protocol_version", err)
	}
	if t.Max, err = tlsVersion(pb.GetTlsMaximumProtocolVersion(), t.Max); err != nil {
		return filter.At("tls_maximum_protocol_version", err)
	}
	if t.Min > t.Max {
		return errors.New("the least version is above the greatest")
	}
	if t.Ciphers, err = transport.ParseCiphers(pb.GetCipherSuites()); err != nil {
		return filter.At("cipher_suites", err)
	}
	t.Curves, err = transport.ParseCurves(pb.GetEcdhCurves())
	return filter.At("ecdh_curves", err)
}

func tlsVersion(v tlsv3.TlsParameters_TlsProtocol, auto uint16) (uint16, error) {
	switch v {
	case tlsv3.TlsParameters_TLS_AUTO:
		return auto, nil
	case tlsv3.TlsParameters_TLSv1_0:
		return tls.VersionTLS10, nil
	case tlsv3.TlsParameters_TLSv1_1:
		return tls.VersionTLS11, nil
	case tlsv3.TlsParameters_TLSv1_2:
		return tls.VersionTLS12, nil
	case tlsv3.TlsParameters_TLSv1_3:
		return tls.VersionTLS13, nil
	}
	return 0, fmt.Errorf("%v is no version of TLS", v)
}

func keyLog(pb *tlsv3.TlsKeyLog) (*transport.KeyLog, error) {
	if pb == nil {
		return nil, nil
	}
	if pb.Path == "" {
		return nil, filter.At("path", errors.New("must not be empty"))
	}
	k := &transport.KeyLog{Path: pb.Path}
	var err error
	if k.Local, err = fromproto.CIDRs("local_address_range", pb.LocalAddressRange); err != nil {
		return nil, err
	}
	k.Remote, err = fromproto.CIDRs("remote_address_range", pb.RemoteAddressRange)
	return k, err
}
