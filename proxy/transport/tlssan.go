package transport

import (
	"crypto/x509"
	"slices"
	"strings"

	"github.com/mecha-mesh/mecha/proxy/meta"
	"github.com/mecha-mesh/mecha/proxy/secret"
)

// kinds are those of package secret by those of certificates.
var kinds = map[meta.AltKind]secret.SANKind{
	meta.OtherName: secret.OtherSAN, meta.EmailName: secret.EmailSAN, meta.DNSName: secret.DNSSAN,
	meta.URIName: secret.URISAN, meta.IPName: secret.IPSAN,
}

// matchesSAN reports whether a name of c matches one of the matchers.
func matchesSAN(c *x509.Certificate, matchers []secret.SAN) bool {
	names := meta.AltNames(c)
	return slices.ContainsFunc(matchers, func(m secret.SAN) bool {
		return slices.ContainsFunc(names, func(n meta.AltName) bool { return matchName(&m, n) })
	})
}

// HasName reports whether one of the names of a certificate matches.
func HasName(names []meta.AltName, m *secret.SAN) bool {
	for _, n := range names {
		if matchName(m, n) {
			return true
		}
	}
	return false
}

func matchName(m *secret.SAN, n meta.AltName) bool {
	kind := kinds[n.Kind]
	switch {
	case m.Kind == secret.AnySAN && kind == secret.OtherSAN, m.Kind != secret.AnySAN && m.Kind != kind:
		return false
	case m.Kind == secret.OtherSAN && !m.OID.Equal(n.OID):
		return false
	case kind == secret.DNSSAN && m.Exact != "":
		return dnsName(m.Exact, n.Text)
	}
	return m.Text.Match(n.Text)
}

// allNames lists the names of c for a message.
func allNames(c *x509.Certificate) string {
	var out []string
	for _, n := range meta.AltNames(c) {
		out = append(out, n.Text)
	}
	return strings.Join(out, ", ")
}

// anyName reports whether c has one of the names, of whatever kind or of some.
func anyName(c *x509.Certificate, names []string, kinds ...meta.AltKind) bool {
	return slices.ContainsFunc(meta.AltNames(c), func(n meta.AltName) bool {
		return (len(kinds) == 0 || slices.Contains(kinds, n.Kind)) && slices.ContainsFunc(names, func(want string) bool {
			return n.Kind != meta.OtherName && (want == n.Text || n.Kind == meta.DNSName && dnsName(want, n.Text))
		})
	})
}

// dnsName reports whether a name of a certificate covers a host name: a wildcard stands
// for a part of the first label (RFC 6125 section 6.4.3).
func dnsName(host, pattern string) bool {
	host, pattern = strings.ToLower(host), strings.ToLower(pattern)
	if host == pattern {
		return true
	}
	label, parent, ok := strings.Cut(host, ".")
	wild, above, ok2 := strings.Cut(pattern, ".")
	if !ok || !ok2 || strings.Contains(above, "*") || strings.HasPrefix(wild, "xn--") || parent != above {
		return false
	}
	before, after, ok := strings.Cut(wild, "*")
	return ok && !strings.Contains(after, "*") && len(label) >= len(wild)-1 && strings.HasPrefix(label, before) && strings.HasSuffix(label, after)
}
