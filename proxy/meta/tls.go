package meta

import (
	"crypto/x509"
	"sync"
	"time"
)

// TLS is what is known about a TLS session. It is not changed any more once a
// connection has it.
type TLS struct {
	Version    string // "TLSv1.3"
	Cipher     string // as OpenSSL names it
	CipherID   uint16 // its number (RFC 8447)
	Curve      string // of the key exchange, "" where there was none
	ServerName string // as sent
	ALPN       string // "" if none was agreed on
	SessionID  string // hexadecimal
	Resumed    bool

	Peer      []*x509.Certificate // as presented, leaf first; nil: none
	Validated bool                // the peer's certificate was found valid
	Local     *x509.Certificate   // shown to the peer; nil: none
	// Handshake is how long it took since the connection began; it counts for downstream.
	Handshake time.Duration

	peer, local described
}

// described is a certificate's description, made when somebody asks for it first.
type described struct {
	once sync.Once
	d    *Described
}

func (d *described) of(c *x509.Certificate) *Described {
	d.once.Do(func() { d.d = Describe(c) })
	return d.d
}

// PeerDescribed describes the certificate of the peer; nil without one, and without t.
func (t *TLS) PeerDescribed() *Described {
	if t == nil || len(t.Peer) == 0 {
		return nil
	}
	return t.peer.of(t.Peer[0])
}

// LocalDescribed describes the certificate that the peer was shown; nil without one, and
// without t.
func (t *TLS) LocalDescribed() *Described {
	if t == nil || t.Local == nil {
		return nil
	}
	return t.local.of(t.Local)
}
