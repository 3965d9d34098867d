package meta

import (
	"crypto/sha1" //nolint:gosec // a name of a certificate that people ask for, no protection
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"encoding/hex"
	"net/netip"
	"strings"
)

// AltName is one subject alternative name, as it is in the certificate.
type AltName struct {
	Kind AltKind
	OID  asn1.ObjectIdentifier // of OtherName
	Text string
}

// AltKind is the kind of an AltName: the number of its alternative in GeneralName.
type AltKind int

// The kinds (RFC 5280 section 4.2.1.6).
const (
	OtherName AltKind = 0
	EmailName AltKind = 1
	DNSName   AltKind = 2
	URIName   AltKind = 6
	IPName    AltKind = 7
)

var oidSAN = asn1.ObjectIdentifier{2, 5, 29, 17}

// AltNames returns the subject alternative names of a certificate (RFC 5280 section
// 4.2.1.6). Those that cannot be read are left out.
func AltNames(c *x509.Certificate) (out []AltName) {
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

func generalName(v asn1.RawValue) (n AltName, ok bool) {
	if v.Class != asn1.ClassContextSpecific {
		return n, false
	}
	n.Kind = AltKind(v.Tag)
	switch n.Kind {
	case OtherName:
		return otherName(v.Bytes)
	case EmailName, DNSName, URIName:
		n.Text = string(v.Bytes)
		return n, true
	case IPName:
		ip, ok := netip.AddrFromSlice(v.Bytes)
		n.Text = ip.String()
		return n, ok
	}
	return n, false
}

func otherName(raw []byte) (n AltName, ok bool) {
	rest, err := asn1.Unmarshal(raw, &n.OID)
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
	n.Kind, n.Text = OtherName, string(value.Bytes)
	return n, true
}

// Described is what is printed of a certificate, in Envoy's forms.
type Described struct {
	Subject, Issuer string // RFC 2253
	Serial          string // hexadecimal
	SHA256, SHA1    string // of the certificate, hexadecimal
	Names           []AltName
}

// Describe returns what is printed of a certificate.
func Describe(c *x509.Certificate) *Described {
	long, short := sha256.Sum256(c.Raw), sha1.Sum(c.Raw) //nolint:gosec // as above
	return &Described{
		Subject: distinguishedName(c.RawSubject), Issuer: distinguishedName(c.RawIssuer), Serial: Serial(c),
		SHA256: hex.EncodeToString(long[:]), SHA1: hex.EncodeToString(short[:]), Names: AltNames(c),
	}
}

// AppendNames appends the names of a kind, separated by commas, and reports whether
// there are any.
func (d *Described) AppendNames(dst []byte, k AltKind) (out []byte, any bool) {
	for _, n := range d.Names {
		if n.Kind != k {
			continue
		}
		if any {
			dst = append(dst, ',')
		}
		dst, any = append(dst, n.Text...), true
	}
	return dst, any
}

// Serial returns the serial number in hexadecimal.
func Serial(c *x509.Certificate) string {
	if c.SerialNumber == nil || c.SerialNumber.Sign() == 0 {
		return "0"
	}
	text := hex.EncodeToString(c.SerialNumber.Bytes())
	if c.SerialNumber.Sign() < 0 {
		text = "-" + text
	}
	return text
}

// urlEncoded is how Envoy escapes PEM.
var urlEncoded = strings.NewReplacer("\n", "%0A", " ", "%20", "+", "%2B", "/", "%2F", "=", "%3D")

// AppendEncodedPEM appends a certificate as URL-encoded PEM.
func AppendEncodedPEM(dst []byte, c *x509.Certificate) []byte {
	return append(dst, urlEncoded.Replace(string(pemOf(c)))...)
}
