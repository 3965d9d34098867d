package accesslog

import (
	"crypto/sha1" //nolint:gosec // the operators name it
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"strconv"
	"strings"
	"time"

	"github.com/mecha-mesh/mecha/proxy/meta"
)

// tlsOf returns the session of one side of an entry, nil for plain text.
type tlsOf func(*Entry) *meta.TLS

func downstreamTLS(e *Entry) *meta.TLS { return e.conn().TLS }
func upstreamTLS(e *Entry) *meta.TLS   { return e.stream().UpstreamTLS }

// defineTLS knows the operators about TLS.
func defineTLS(name string) (definition, bool) {
	switch name {
	case "TLS_JA3_FINGERPRINT", "TLS_JA4_FINGERPRINT": // of a listener filter that is not there
		return definition{}, true
	case "UPSTREAM_SERVER_NAME":
		return ofTLS(upstreamTLS, func(t *meta.TLS) string { return t.ServerName }), true
	case "DOWNSTREAM_HANDSHAKE_DURATION":
		return definition{kind: number, plain: func(dst []byte, e *Entry) ([]byte, bool) {
			t := downstreamTLS(e)
			if t == nil || t.Handshake == 0 {
				return dst, false
			}
			return strconv.AppendInt(dst, t.Handshake.Milliseconds(), 10), true
		}}, true
	}
	if rest, ok := strings.CutPrefix(name, "DOWNSTREAM_"); ok {
		return defineSession(rest, downstreamTLS)
	}
	if rest, ok := strings.CutPrefix(name, "UPSTREAM_"); ok {
		if !hasUpstream(rest) {
			return definition{}, false
		}
		return defineSession(rest, upstreamTLS)
	}
	return definition{}, false
}

// hasUpstream reports whether Envoy has an operator for upstream, too.
func hasUpstream(name string) bool {
	switch name {
	case "LOCAL_SUBJECT", "PEER_SERIAL":
		return false
	}
	for _, part := range [...]string{"FINGERPRINT", "EMAIL_SAN", "OTHERNAME_SAN", "CHAIN_SERIALS"} {
		if strings.Contains(name, part) {
			return false
		}
	}
	return true
}

// defineSession knows what both sides have.
func defineSession(name string, of tlsOf) (definition, bool) {
	switch name {
	case "TLS_SESSION_ID":
		return ofTLS(of, func(t *meta.TLS) string { return t.SessionID }), true
	case "TLS_CIPHER":
		return ofTLS(of, func(t *meta.TLS) string { return t.Cipher }), true
	case "TLS_GROUP":
		return ofTLS(of, func(t *meta.TLS) string { return t.Curve }), true
	case "TLS_VERSION":
		return ofTLS(of, func(t *meta.TLS) string { return t.Version }), true
	case "PEER_CHAIN_FINGERPRINTS_256":
		return ofChain(of, func(c *x509.Certificate) string { h := sha256.Sum256(c.Raw); return hex.EncodeToString(h[:]) }), true
	case "PEER_CHAIN_FINGERPRINTS_1":
		return ofChain(of, func(c *x509.Certificate) string {
			h := sha1.Sum(c.Raw) //nolint:gosec // as asked for
			return hex.EncodeToString(h[:])
		}), true
	case "PEER_CHAIN_SERIALS":
		return ofChain(of, meta.Serial), true
	case "PEER_CERT":
		return definition{plain: func(dst []byte, e *Entry) ([]byte, bool) {
			t := of(e)
			if t == nil || len(t.Peer) == 0 {
				return dst, false
			}
			return meta.AppendEncodedPEM(dst, t.Peer[0]), true
		}}, true
	case "PEER_CERT_V_START":
		return validity(of, func(c *x509.Certificate) time.Time { return c.NotBefore }), true
	case "PEER_CERT_V_END":
		return validity(of, func(c *x509.Certificate) time.Time { return c.NotAfter }), true
	}
	if rest, ok := strings.CutPrefix(name, "PEER_"); ok {
		return defineCertificate(rest, func(e *Entry) *meta.Described { return of(e).PeerDescribed() })
	}
	if rest, ok := strings.CutPrefix(name, "LOCAL_"); ok && rest != "ISSUER" && rest != "SERIAL" && !strings.HasPrefix(rest, "FINGERPRINT") {
		return defineCertificate(rest, func(e *Entry) *meta.Described { return of(e).LocalDescribed() })
	}
	return definition{}, false
}

// defineCertificate knows what is printed of either certificate.
func defineCertificate(name string, of func(*Entry) *meta.Described) (definition, bool) {
	switch name {
	case "SUBJECT":
		return ofDescribed(of, func(d *meta.Described) string { return d.Subject }), true
	case "ISSUER":
		return ofDescribed(of, func(d *meta.Described) string { return d.Issuer }), true
	case "SERIAL":
		return ofDescribed(of, func(d *meta.Described) string { return d.Serial }), true
	case "FINGERPRINT_256":
		return ofDescribed(of, func(d *meta.Described) string { return d.SHA256 }), true
	case "FINGERPRINT_1":
		return ofDescribed(of, func(d *meta.Described) string { return d.SHA1 }), true
	}
	kinds := map[string]meta.AltKind{
		"IP_SAN": meta.IPName, "DNS_SAN": meta.DNSName, "URI_SAN": meta.URIName, "EMAIL_SAN": meta.EmailName,
		"OTHERNAME_SAN": meta.OtherName,
	}
	k, ok := kinds[name]
	if !ok {
		return definition{}, false
	}
	return definition{plain: func(dst []byte, e *Entry) ([]byte, bool) {
		d := of(e)
		if d == nil {
			return dst, false
		}
		return d.AppendNames(dst, k)
	}}, true
}

func ofTLS(of tlsOf, get func(*meta.TLS) string) definition {
	return definition{plain: func(dst []byte, e *Entry) ([]byte, bool) {
		t := of(e)
		if t == nil {
			return dst, false
		}
		v := get(t)
		return append(dst, v...), v != ""
	}}
}

func ofDescribed(of func(*Entry) *meta.Described, get func(*meta.Described) string) definition {
	return definition{plain: func(dst []byte, e *Entry) ([]byte, bool) {
		d := of(e)
		if d == nil {
			return dst, false
		}
		v := get(d)
		return append(dst, v...), v != ""
	}}
}

// ofChain prints something of each certificate that the peer has shown.
func ofChain(of tlsOf, get func(*x509.Certificate) string) definition {
	return definition{plain: func(dst []byte, e *Entry) ([]byte, bool) {
		t := of(e)
		if t == nil || len(t.Peer) == 0 {
			return dst, false
		}
		for i, c := range t.Peer {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = append(dst, get(c)...)
		}
		return dst, true
	}}
}

// validity prints a time of the peer's certificate; "2006-01-02T15:04:05.000Z" unless a
// format is given.
func validity(of tlsOf, get func(*x509.Certificate) time.Time) definition {
	return definition{args: mayArgs, build: func(args string) (appendFunc, error) {
		format := compileTime(args, false)
		return func(dst []byte, e *Entry) ([]byte, bool) {
			t := of(e)
			if t == nil || len(t.Peer) == 0 {
				return dst, false
			}
			return format.append(dst, get(t.Peer[0]).UTC()), true
		}, nil
	}}
}
