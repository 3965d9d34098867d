package transport

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"syscall"
)

// openssl is a failure in the words of BoringSSL, which Envoy puts into access logs.
type openssl struct {
	code uint32
	text string
	err  error
}

func (e *openssl) Error() string {
	if e.code>>24 == sysCode>>24 {
		return fmt.Sprintf("%d:system library:OPENSSL_internal:%s", e.code, e.text)
	}
	return fmt.Sprintf("%d:SSL routines:OPENSSL_internal:%s", e.code, e.text)
}

func (e *openssl) Unwrap() error { return e.err }

// What ERR_PACK makes of a reason of the library SSL (16) and of an error number (SYS, 2).
const (
	sslCode = 16 << 24
	sysCode = 2 << 24
)

// Reasons that are told together where a server does not like what is offered to it.
const (
	handshakeFailure = 1040 // SSLV3_ALERT_HANDSHAKE_FAILURE
	onClientHello    = 154  // HANDSHAKE_FAILURE_ON_CLIENT_HELLO
)

// reasons are those of BoringSSL, by what the errors of package crypto/tls contain.
var reasons = []struct {
	part string
	code uint32
	text string
}{
	{"first record does not look like a TLS handshake", 247, "WRONG_VERSION_NUMBER"},
	{"HTTP request", 156, "HTTP_REQUEST"},
	{"client offered only unsupported versions", 240, "UNSUPPORTED_PROTOCOL"},
	{"server selected unsupported protocol version", 240, "UNSUPPORTED_PROTOCOL"},
	{"no cipher suite supported by both", 184, "NO_SHARED_CIPHER"},
	{"no key exchanges supported by both", 266, "NO_SHARED_GROUP"},
	{"no mutually supported ECDHE curve", 184, "NO_SHARED_CIPHER"},
	{"didn't provide a certificate", 192, "PEER_DID_NOT_RETURN_A_CERTIFICATE:peer did not provide required client certificate"},
	{"OCSP_STAPLE_REQUIRED", 133, "CONNECTION_REJECTED"},
	{"KEY_USAGE_BIT_INCORRECT", 302, "KEY_USAGE_BIT_INCORRECT"},
	{"remote error: tls: handshake failure", handshakeFailure, "SSLV3_ALERT_HANDSHAKE_FAILURE"},
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
	var no syscall.Errno
	if errors.As(err, &no) {
		text := no.Error()
		return &openssl{sysCode | uint32(no), strings.ToUpper(text[:1]) + text[1:], err}
	}
	var header tls.RecordHeaderError
	text := err.Error()
	if errors.As(err, &header) {
		text = header.Msg
		if plainHTTP(header.RecordHeader[:]) {
			text = "HTTP request"
		}
	}
	for _, r := range reasons {
		if strings.Contains(text, r.part) {
			return &openssl{sslCode | r.code, r.text, err}
		}
	}
	return err
}

// plainHTTP reports whether what came in place of a record is the beginning of a request.
func plainHTTP(b []byte) bool {
	for _, m := range [...]string{"GET ", "POST ", "HEAD ", "PUT "} {
		if n := min(len(b), len(m)); n > 0 && string(b[:n]) == m[:n] {
			return true
		}
	}
	return false
}

// gone reports whether the peer ended the connection in the middle of a handshake: Envoy
// neither counts nor names a reason.
func gone(err error) bool { return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) }

// uncounted reports whether a handshake has failed for no reason of TLS.
func uncounted(err error) bool {
	return gone(err) || errors.As(err, new(syscall.Errno)) || errors.As(err, new(*verifyError))
}

// broken reports whether a read has failed because of what TLS has said or made of it.
func broken(err error) bool {
	var op *net.OpError
	return errors.As(err, new(tls.RecordHeaderError)) || errors.As(err, &op) && (op.Op == "remote error" || op.Op == "local error")
}
