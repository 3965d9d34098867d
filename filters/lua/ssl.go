package lua

import (
	"strings"
	"time"

	glua "github.com/yuin/gopher-lua"

	"github.com/mecha-mesh/mecha/proxy/meta"
)

// ssl is nil for a connection in plain text.
func (h *host) ssl(l *glua.LState, r *run) int {
	if r.s.Conn.TLS == nil {
		return pushNil(l, r)
	}
	l.Push(h.single["ssl"])
	return 1
}

// sslMethods are those of ssl().
func (h *host) sslMethods() methods {
	m := methods{}
	for name, f := range sslTexts {
		m[name] = h.on("ssl", func(l *glua.LState, r *run) int { return pushText(l, f(r.tls(l))) })
	}
	for name, f := range sslLists {
		m[name] = h.on("ssl", func(l *glua.LState, r *run) int {
			t := l.NewTable()
			for _, text := range f(r.tls(l)) {
				t.Append(glua.LString(text))
			}
			l.Push(t)
			return 1
		})
	}
	for name, f := range sslFlags {
		m[name] = h.on("ssl", func(l *glua.LState, r *run) int {
			l.Push(glua.LBool(f(r.tls(l))))
			return 1
		})
	}
	for name, f := range sslTimes {
		m[name] = h.on("ssl", func(l *glua.LState, r *run) int {
			at := f(r.tls(l))
			if at.IsZero() {
				return pushNil(l, r)
			}
			l.Push(glua.LNumber(at.Unix()))
			return 1
		})
	}
	m["ciphersuiteId"] = h.on("ssl", unsupported("ciphersuiteId()"))
	return m
}

// unsupported makes a method that this build does not have.
func unsupported(name string) func(*glua.LState, *run) int {
	return func(l *glua.LState, _ *run) int {
		l.RaiseError("this build does not support %s", name)
		return 0
	}
}

func (r *run) tls(l *glua.LState) *meta.TLS {
	t := r.s.Conn.TLS
	if t == nil {
		l.RaiseError("object used outside of proper scope")
	}
	return t
}

var sslFlags = map[string]func(*meta.TLS) bool{
	"peerCertificatePresented": func(t *meta.TLS) bool { return len(t.Peer) > 0 },
	"peerCertificateValidated": func(t *meta.TLS) bool { return t.Validated },
}

var sslTexts = map[string]func(*meta.TLS) string{
	"sha256PeerCertificateDigest": func(t *meta.TLS) string { return of(t.PeerDescribed()).SHA256 },
	"serialNumberPeerCertificate": func(t *meta.TLS) string { return of(t.PeerDescribed()).Serial },
	"issuerPeerCertificate":       func(t *meta.TLS) string { return of(t.PeerDescribed()).Issuer },
	"subjectPeerCertificate":      func(t *meta.TLS) string { return of(t.PeerDescribed()).Subject },
	"subjectLocalCertificate":     func(t *meta.TLS) string { return of(t.LocalDescribed()).Subject },
	"sessionId":                   func(t *meta.TLS) string { return t.SessionID },
	"ciphersuiteString":           func(t *meta.TLS) string { return t.Cipher },
	"tlsVersion":                  func(t *meta.TLS) string { return t.Version },
	"urlEncodedPemEncodedPeerCertificate": func(t *meta.TLS) string {
		if len(t.Peer) == 0 {
			return ""
		}
		return string(meta.AppendEncodedPEM(nil, t.Peer[0]))
	},
	"urlEncodedPemEncodedPeerCertificateChain": func(t *meta.TLS) string {
		var out []byte
		for _, c := range t.Peer {
			out = meta.AppendEncodedPEM(out, c)
		}
		return string(out)
	},
}

var sslLists = map[string]func(*meta.TLS) []string{
	"uriSanPeerCertificate":   func(t *meta.TLS) []string { return names(t.PeerDescribed(), meta.URIName) },
	"uriSanLocalCertificate":  func(t *meta.TLS) []string { return names(t.LocalDescribed(), meta.URIName) },
	"dnsSansPeerCertificate":  func(t *meta.TLS) []string { return names(t.PeerDescribed(), meta.DNSName) },
	"dnsSansLocalCertificate": func(t *meta.TLS) []string { return names(t.LocalDescribed(), meta.DNSName) },
}

var sslTimes = map[string]func(*meta.TLS) time.Time{
	"validFromPeerCertificate": func(t *meta.TLS) time.Time {
		if len(t.Peer) == 0 {
			return time.Time{}
		}
		return t.Peer[0].NotBefore
	},
	"expirationPeerCertificate": func(t *meta.TLS) time.Time {
		if len(t.Peer) == 0 {
			return time.Time{}
		}
		return t.Peer[0].NotAfter
	},
}

// of is d, or an empty description.
func of(d *meta.Described) *meta.Described {
	if d == nil {
		return new(meta.Described)
	}
	return d
}

func names(d *meta.Described, k meta.AltKind) (out []string) {
	for _, n := range of(d).Names {
		if n.Kind == k {
			out = append(out, strings.Clone(n.Text))
		}
	}
	return out
}
