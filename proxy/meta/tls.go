package meta

import (
	"crypto/x509"
)

// TLS is what is known about a TLS session. It is not changed any more once a
// connection has it.
type TLS struct {
	Version    string // "TLSv1.3"
	Cipher     string // as OpenSSL names it
	Curve      string // of the key exchange, "" where there was none
	ServerName string // as sent
	ALPN       string // "" if none was agreed on
	SessionID  string // hexadecimal
	Resumed    bool

	Peer      []*x509.Certificate // as presented, leaf first; nil: none
	Validated bool                // the peer's certificate was found valid
	Local     *x509.Certificate   // shown to the peer; nil: none
}
