package transport

import (
	"crypto/x509"
	"encoding/asn1"
	"net/netip"
	"slices"
	"strings"

	"github.com/mecha-mesh/mecha/proxy/secret"
)

// sanName is a subject alternative name, as it is in the certificate.
type sanName struct {
	kind secret.SANKind
	oid  asn1.ObjectIdentifier // of OtherSAN
	text string
}

var oidSAN = asn1.ObjectIdentifier{2, 5, 29, 17}

// sanNames returns the subject alternative names of a certificate (RFC 5280 section
// 4.2.1.6). Those that cannot be read are left out.
func sanNames(c *x509.Certificate) (out []sanName) {
	for _, e := range c.Extensions {
		if !e.Id.Equal(oidSAN) {
			continue
		}
		var seq asn1.RawValue
		if _, err := asn1.Unmarshal(e.Value, &seq); err != nil || !seq.IsCompound || seq.Tag != asn1.TagSequence {
			return out
		}
		for rest := seq.Bytes; len(rest) > 0; {
			var v asn1.RawValue
			var err error
			if rest, err = asn1.Unmarshal(rest, &v); err != nil {
				return out
			}
			if n, ok := generalName(v); ok {
				out = append(out, n)
			}
		}
	}
	return out
}

func generalName(v asn1.RawValue) (n sanName, ok bool) {
	if v.Class != asn1.ClassContextSpecific {
		return n, false
	}
	switch v.Tag {
	case 0:
		return otherName(v.Bytes)
	case 1:
		return sanName{kind: secret.EmailSAN, text: string(v.Bytes)}, true
	case 2:
		return sanName{kind: secret.DNSSAN, text: string(v.Bytes)}, true
	case 6:
		return sanName{kind: secret.URISAN, text: string(v.Bytes)}, true
	case 7:
		ip, ok := netip.AddrFromSlice(v.Bytes)
		return sanName{kind: secret.IPSAN, text: ip.String()}, ok
	}
	return n, false
}

func otherName(raw []byte) (n sanName, ok bool) {
	rest, err := asn1.Unmarshal(raw, &n.oid)
	if err != nil {
		return n, false
	}
	var explicit, value asn1.RawValue
	if _, err := asn1.Unmarshal(rest, &explicit); err != nil || explicit.Class != asn1.ClassContextSpecific {
		return n, false
	}
	if _, err := asn1.Unmarshal(explicit.Bytes, &value); err != nil {
		return n, false
	}
	n.kind, n.text = secret.OtherSAN, string(value.Bytes)
	return n, true
}

// matchesSAN reports whether a name of c matches one of the matchers.
func matchesSAN(c *x509.Certificate, matchers []secret.SAN) bool {
	names := sanNames(c)
	return slices.ContainsFunc(matchers, func(m secret.SAN) bool {
		return slices.ContainsFunc(names, func(n sanName) bool { return matchName(&m, n) })
	})
}

func matchName(m *secret.SAN, n sanName) bool {
	switch {
	case m.Kind == secret.AnySAN && n.kind == secret.OtherSAN, m.Kind != secret.AnySAN && m.Kind != n.kind:
		return false
	case m.Kind == secret.OtherSAN && !m.OID.Equal(n.oid):
		return false
	case n.kind == secret.DNSSAN && m.Exact != "":
		return dnsName(m.Exact, n.text)
	}
	return m.Text.Match(n.text)
}

// anyName reports whether c has one of the names, of whatever kind.
func anyName(c *x509.Certificate, names []string) bool {
	return slices.ContainsFunc(sanNames(c), func(n sanName) bool {
		return slices.ContainsFunc(names, func(want string) bool {
			return n.kind != secret.OtherSAN && (want == n.text || n.kind == secret.DNSSAN && dnsName(want, n.text))
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
