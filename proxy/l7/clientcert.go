package l7

import (
	"crypto/sha256"
	"encoding/hex"

	"github.com/mecha-mesh/mecha/proxy/header"
	"github.com/mecha-mesh/mecha/proxy/meta"
)

// ForwardClientCert is forward_client_cert_details: what becomes of
// x-forwarded-client-cert.
type ForwardClientCert uint8

// The modes, in the order of the API.
const (
	SanitizeClientCert      ForwardClientCert = iota
	ForwardOnlyClientCert                     // stays if the client has shown a certificate
	AppendForwardClientCert                   // as before, and ours is added
	SanitizeSetClientCert                     // ours takes its place
	AlwaysForwardClientCert                   // stays
)

// ClientCertDetails is set_current_client_cert_details: what is said of the client's
// certificate beside its hash and our own names.
type ClientCertDetails struct{ Cert, Chain, Subject, URI, DNS bool }

// ClientCertRule is both: what becomes of the header, and what ours says.
type ClientCertRule struct {
	Mode    ForwardClientCert
	Details ClientCertDetails
}

// setClientCert makes x-forwarded-client-cert what the configuration says. Only who has
// shown a certificate may have one.
func (st *stream) setClientCert() {
	m, rule := &st.Request, &st.m.spec.ClientCert
	if choose := st.m.spec.ChooseClientCert; choose != nil {
		if r := choose(&st.Stream); r != nil {
			rule = r
		}
	}
	mode := rule.Mode
	if mode == AlwaysForwardClientCert {
		return
	}
	t := st.Conn.TLS
	if mode == SanitizeClientCert || t == nil || len(t.Peer) == 0 {
		m.DelID(header.XForwardedClientCert)
		return
	}
	if mode == ForwardOnlyClientCert {
		return
	}
	own := st.conn.clientCert(t, rule)
	if mode == AppendForwardClientCert && m.Has(header.XForwardedClientCert) {
		m.SetID(header.XForwardedClientCert, m.Format(func(dst []byte) []byte {
			for v := range m.Values("x-forwarded-client-cert") {
				dst = append(append(dst, v...), ',')
			}
			return append(dst, own...)
		}))
		return
	}
	m.SetID(header.XForwardedClientCert, own)
}

// clientCert is the element about the client of this connection. That of the configuration
// without a matcher is made once.
func (c *conn) clientCert(t *meta.TLS, rule *ClientCertRule) string {
	if rule != &c.m.spec.ClientCert {
		return string(appendClientCert(nil, t, rule.Details))
	}
	c.certOnce.Do(func() { c.cert = string(appendClientCert(nil, t, rule.Details)) })
	return c.cert
}

// appendClientCert appends an element of x-forwarded-client-cert. Subject and URI are there even
// when they are empty, as in Envoy.
func appendClientCert(dst []byte, t *meta.TLS, details ClientCertDetails) []byte {
	if local := t.LocalDescribed(); local != nil {
		dst = appendEach(dst, "By=", local, meta.URIName)
	}
	sum := sha256.Sum256(t.Peer[0].Raw)
	dst = hex.AppendEncode(append(dst, "Hash="...), sum[:])
	if details.Cert {
		dst = append(meta.AppendEncodedPEM(append(dst, `;Cert="`...), t.Peer[0]), '"')
	}
	if details.Chain {
		dst = append(dst, `;Chain="`...)
		for _, c := range t.Peer {
			dst = meta.AppendEncodedPEM(dst, c)
		}
		dst = append(dst, '"')
	}
	peer := t.PeerDescribed()
	if details.Subject {
		dst = append(append(append(dst, `;Subject="`...), peer.Subject...), '"')
	}
	if details.URI {
		before := len(dst)
		if dst = appendEach(append(dst, ';'), "URI=", peer, meta.URIName); len(dst) == before+1 {
			dst = append(dst, "URI="...)
		} else {
			dst = dst[:len(dst)-1]
		}
	}
	if details.DNS {
		dst = appendEach(append(dst, ';'), "DNS=", peer, meta.DNSName)
		dst = dst[:len(dst)-1]
	}
	return dst
}

// appendEach appends the names of a kind, each with its key before it and ';' after it.
func appendEach(dst []byte, key string, d *meta.Described, k meta.AltKind) []byte {
	for _, n := range d.Names {
		if n.Kind == k {
			dst = append(append(append(dst, key...), n.Text...), ';')
		}
	}
	return dst
}
