package transport

import (
	"crypto/tls"
	"errors"
	"fmt"
	"strings"
)

// openssl is a failure in the words of BoringSSL, which Envoy puts into access logs.
type openssl struct {
	code uint32
	text string
	err  error
}

func (e *openssl) Error() string {
	return fmt.Sprintf("%d:SSL routines:OPENSSL_internal:%s", e.code, e.text)
}

func (e *openssl) Unwrap() error { return e.err }

// sslCode is what ERR_PACK makes of a reason of the library SSL (16).
const sslCode = 16 << 24

// reasons are those of BoringSSL, by what the errors of package crypto/tls contain.
var reasons = []struct {
	part string
	code uint32
	text string
}{
	{"first record does not look like a TLS handshake", 247, "WRONG_VERSION_NUMBER"},
	{"client offered only unsupported versions", 240, "UNSUPPORTED_PROTOCOL"},
	{"server selected unsupported protocol version", 240, "UNSUPPORTED_PROTOCOL"},
	{"no cipher suite supported by both", 185, "NO_SHARED_CIPHER"},
	{"no mutually supported ECDHE curve", 185, "NO_SHARED_CIPHER"},
	{"didn't provide a certificate", 192, "PEER_DID_NOT_RETURN_A_CERTIFICATE"},
	{"remote error: tls: handshake failure", 1040, "SSLV3_ALERT_HANDSHAKE_FAILURE"},
	{"remote error: tls: bad certificate", 1042, "SSLV3_ALERT_BAD_CERTIFICATE"},
	{"remote error: tls: expired certificate", 1045, "SSLV3_ALERT_CERTIFICATE_EXPIRED"},
	{"remote error: tls: revoked certificate", 1044, "SSLV3_ALERT_CERTIFICATE_REVOKED"},
	{"remote error: tls: unknown certificate authority", 1048, "TLSV1_ALERT_UNKNOWN_CA"},
	{"remote error: tls: unknown certificate", 1046, "SSLV3_ALERT_CERTIFICATE_UNKNOWN"},
	{"remote error: tls: protocol version not supported", 1070, "TLSV1_ALERT_PROTOCOL_VERSION"},
	{"remote error: tls: certificate required", 1116, "TLSV1_ALERT_CERTIFICATE_REQUIRED"},
	{"remote error: tls: unrecognized name", 1112, "TLSV1_ALERT_UNRECOGNIZED_NAME"},
	{"remote error: tls: no application protocol", 1120, "TLSV1_ALERT_NO_APPLICATION_PROTOCOL"},
	{"oversized record", 135, "DATA_LENGTH_TOO_LONG"},
	{"bad record MAC", 139, "DECRYPTION_FAILED_OR_BAD_RECORD_MAC"},
}

// reason puts an error of a handshake into BoringSSL's words where it has any for it.
func reason(err error) error {
	var v *verifyError
	if errors.As(err, &v) {
		return &openssl{sslCode | 125, "CERTIFICATE_VERIFY_FAILED:" + v.text, err}
	}
	var header tls.RecordHeaderError
	text := err.Error()
	if errors.As(err, &header) {
		text = header.Msg
	}
	for _, r := range reasons {
		if strings.Contains(text, r.part) {
			return &openssl{sslCode | r.code, r.text, err}
		}
	}
	return err
}
