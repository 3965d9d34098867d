package transport

import (
	"crypto/tls"
	"fmt"
	"strings"
)

// ciphers are the cipher suites of TLS 1.0 to 1.2 by the names of OpenSSL, which Envoy
// uses, in its order of preference.
var ciphers = []struct {
	name string
	id   uint16
}{
	{"ECDHE-ECDSA-AES128-GCM-SHA256", tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256},
	{"ECDHE-RSA-AES128-GCM-SHA256", tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256},
	{"ECDHE-ECDSA-AES256-GCM-SHA384", tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384},
	{"ECDHE-RSA-AES256-GCM-SHA384", tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384},
	{"ECDHE-ECDSA-CHACHA20-POLY1305", tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256},
	{"ECDHE-RSA-CHACHA20-POLY1305", tls.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256},
	{"ECDHE-ECDSA-AES128-SHA", tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA},
	{"ECDHE-RSA-AES128-SHA", tls.TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA},
	{"ECDHE-ECDSA-AES256-SHA", tls.TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA},
	{"ECDHE-RSA-AES256-SHA", tls.TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA},
	{"ECDHE-RSA-AES128-SHA256", tls.TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA256},
	{"AES128-GCM-SHA256", tls.TLS_RSA_WITH_AES_128_GCM_SHA256},
	{"AES256-GCM-SHA384", tls.TLS_RSA_WITH_AES_256_GCM_SHA384},
	{"AES128-SHA", tls.TLS_RSA_WITH_AES_128_CBC_SHA},
	{"AES256-SHA", tls.TLS_RSA_WITH_AES_256_CBC_SHA},
	{"DES-CBC3-SHA", tls.TLS_RSA_WITH_3DES_EDE_CBC_SHA},
}

// defaultCiphers is how many of them Envoy uses where none is configured.
const defaultCiphers = 6

// ParseCiphers returns the suites that cipher_suites name, those of a group in brackets
// each on its own. The order is not kept: package crypto/tls has its own.
func ParseCiphers(names []string) ([]uint16, error) {
	var out []uint16
	for _, entry := range names {
		group := strings.TrimSuffix(strings.TrimPrefix(entry, "["), "]")
		for name := range strings.FieldsFuncSeq(group, func(r rune) bool { return r == '|' || r == ':' }) {
			id, ok := cipherID(strings.TrimSpace(name))
			if !ok {
				return nil, fmt.Errorf("this build does not support the cipher suite %q", name)
			}
			out = append(out, id)
		}
	}
	return out, nil
}

func cipherID(name string) (uint16, bool) {
	for _, c := range ciphers {
		if c.name == name {
			return c.id, true
		}
	}
	return 0, false
}

func defaultSuites() []uint16 {
	var out []uint16
	for _, c := range ciphers[:defaultCiphers] {
		out = append(out, c.id)
	}
	return out
}

// cipherName is what Envoy calls a suite.
func cipherName(id uint16) string {
	for _, c := range ciphers {
		if c.id == id {
			return c.name
		}
	}
	return tls.CipherSuiteName(id) // those of TLS 1.3 have the same name everywhere
}

func versionName(v uint16) string {
	switch v {
	case tls.VersionTLS10:
		return "TLSv1"
	case tls.VersionTLS11:
		return "TLSv1.1"
	case tls.VersionTLS12:
		return "TLSv1.2"
	case tls.VersionTLS13:
		return "TLSv1.3"
	}
	return ""
}

// curves are the groups by Envoy's names.
var curves = []struct {
	name string
	id   tls.CurveID
}{
	{"X25519", tls.X25519}, {"P-256", tls.CurveP256}, {"P-384", tls.CurveP384}, {"P-521", tls.CurveP521},
	{"X25519MLKEM768", tls.X25519MLKEM768},
}

// ParseCurves returns the groups that ecdh_curves name; none are Envoy's X25519MLKEM768, X25519 and P-256.
func ParseCurves(names []string) ([]tls.CurveID, error) {
	if len(names) == 0 {
		return []tls.CurveID{tls.X25519MLKEM768, tls.X25519, tls.CurveP256}, nil
	}
	var out []tls.CurveID
next:
	for _, n := range names {
		for _, c := range curves {
			if c.name == n {
				out = append(out, c.id)
				continue next
			}
		}
		return nil, fmt.Errorf("this build does not support the curve %q", n)
	}
	return out, nil
}

func curveName(id tls.CurveID) string {
	for _, c := range curves {
		if c.id == id {
			return c.name
		}
	}
	return ""
}
