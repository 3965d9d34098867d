package transport

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/mecha-mesh/mecha/proxy/meta"
	"github.com/mecha-mesh/mecha/proxy/netio"
	"github.com/mecha-mesh/mecha/proxy/secret"
)

// TLS is what both sides of TLS are configured with (CommonTlsContext, TlsParameters).
type TLS struct {
	ID           string // equal for equal configuration, apart from the contents of secrets
	Min, Max     uint16 // versions as in package crypto/tls
	Ciphers      []uint16
	Curves       []tls.CurveID
	ALPN         []string
	Certificates []secret.Source[secret.Certificate]
	// Validation and ValidationBase say what is checked of the peer's certificate: the
	// secret completes the base (combined_validation_context). Each may be nil.
	Validation     secret.Source[secret.Validation]
	ValidationBase *secret.Validation
	KeyLog         *KeyLog // nil: none
}

// secrets is what the sources of a TLS had at one time.
type secrets struct {
	certs      []*secret.Certificate
	validation *secret.Validation // merged
	current    *secret.Validation // as it came
}

var errNotReady = errors.New("TLS_error:Secret is not supplied by SDS")

// read returns what the sources have now.
func (t *TLS) read() (s secrets, err error) {
	for _, c := range t.Certificates {
		v := c.Current()
		if v == nil {
			return s, errNotReady
		}
		s.certs = append(s.certs, v)
	}
	s.validation = t.ValidationBase
	if t.Validation == nil {
		return s, nil
	}
	if s.current = t.Validation.Current(); s.current == nil {
		return s, errNotReady
	}
	s.validation = t.ValidationBase.Merge(s.current)
	return s, s.validation.Check()
}

// same reports whether the sources still have what they had.
func (s *secrets) same(t *TLS) bool {
	for i, c := range t.Certificates {
		if c.Current() != s.certs[i] {
			return false
		}
	}
	return t.Validation == nil || t.Validation.Current() == s.current
}

// config is what both sides have in common. Verification is ours, not that of package
// crypto/tls: see verifier.
func (t *TLS) config() *tls.Config {
	c := &tls.Config{
		MinVersion: t.Min, MaxVersion: t.Max, CipherSuites: t.Ciphers, CurvePreferences: t.Curves, NextProtos: t.ALPN,
		DynamicRecordSizingDisabled: true, // as BoringSSL: bulk data in full records
	}
	if c.CipherSuites == nil {
		c.CipherSuites = defaultSuites()
	}
	return c
}

// handshake completes conn, whose records go over raw, within ctx.
func handshake(ctx context.Context, raw *netio.Conn, conn *tls.Conn) error {
	stop := func() bool { return true }
	if d, ok := ctx.Deadline(); ok {
		_ = raw.SetDeadline(d) // a socket that is gone fails below
	}
	if ctx.Done() != nil {
		stop = context.AfterFunc(ctx, raw.Cut)
	}
	err := conn.Handshake()
	if !stop() {
		return context.Cause(ctx)
	}
	if err == nil {
		return raw.SetDeadline(time.Time{})
	}
	if ctx.Err() == nil && errors.Is(err, os.ErrDeadlineExceeded) {
		return context.DeadlineExceeded // the socket knows a moment before ctx does
	}
	return err
}

// describe returns what a finished handshake has agreed on.
func describe(conn *tls.Conn, local *x509.Certificate, v *verifier) *meta.TLS {
	s := conn.ConnectionState()
	m := &meta.TLS{
		Version: versionName(s.Version), Cipher: cipherName(s.CipherSuite), CipherID: s.CipherSuite, Curve: curveName(s.CurveID),
		ServerName: s.ServerName, ALPN: s.NegotiatedProtocol, Resumed: s.DidResume,
		Peer: s.PeerCertificates, Local: local,
	}
	m.Validated = len(m.Peer) > 0 && v.validated
	if len(s.TLSUnique) > 0 {
		m.SessionID = hex.EncodeToString(s.TLSUnique)
	}
	return m
}

// overlaps reports whether both sides have a protocol in common.
func overlaps(a, b []string) bool {
	return slices.ContainsFunc(a, func(p string) bool { return slices.Contains(b, p) })
}

// Failure is why there is no TLS connection, in the words of Envoy's transport failure
// reasons.
type Failure struct {
	text string
	err  error
}

func (f *Failure) Error() string { return f.text }

// Unwrap returns the cause.
func (f *Failure) Unwrap() error { return f.err }

// failure puts the failure of a handshake in Envoy's words; that the peer has left is none
// of TLS. early is before the server has said anything.
func failure(err error, early bool) error {
	switch {
	case errors.Is(err, errNotReady):
		return err
	case gone(err):
		return ErrGone
	}
	why := reason(err)
	text := "TLS_error:|" + why.Error()
	if o, ok := why.(*openssl); ok && early && o.code == sslCode|handshakeFailure { //nolint:errorlint // what reason made
		text += fmt.Sprintf("|%d:SSL routines:OPENSSL_internal:HANDSHAKE_FAILURE_ON_CLIENT_HELLO", sslCode|onClientHello)
	}
	return &Failure{text + ":TLS_error_end", err}
}
