package admin

import (
	"crypto/x509"
	"encoding/hex"
	"net/http"
	"strings"
	"time"

	"github.com/mecha-mesh/mecha/proxy/meta"
	"github.com/mecha-mesh/mecha/proxy/secret"
)

// contextJSON is envoy.admin.v3.Certificate: what one TLS context trusts and shows.
type contextJSON struct {
	CAs   []certificateJSON `json:"ca_cert"`
	Chain []certificateJSON `json:"cert_chain"`
}

// certificateJSON is envoy.admin.v3.CertificateDetails.
type certificateJSON struct {
	Path   string        `json:"path"`
	Serial string        `json:"serial_number"`
	Names  []altNameJSON `json:"subject_alt_names"`
	Days   decimal       `json:"days_until_expiration"`
	From   string        `json:"valid_from"`
	Until  string        `json:"expiration_time"`
	OCSP   *ocspJSON     `json:"ocsp_details,omitempty"`
}

// altNameJSON is SubjectAlternateName, which knows these kinds only.
type altNameJSON struct {
	DNS string `json:"dns,omitempty"`
	URI string `json:"uri,omitempty"`
	IP  string `json:"ip_address,omitempty"`
}

type ocspJSON struct {
	From  string `json:"valid_from"`
	Until string `json:"expiration,omitempty"`
}

// serveCerts shows envoy.admin.v3.Certificates. As in Envoy, cert_chain has the leaf of
// each chain and nothing above it.
func (s *Server) serveCerts(w http.ResponseWriter, _ *http.Request) {
	out := struct {
		Contexts []contextJSON `json:"certificates"`
	}{[]contextJSON{}}
	if src, can := s.cfg.Source.(CertificateLister); can {
		now := time.Now()
		for _, u := range src.Certificates() {
			out.Contexts = append(out.Contexts, toContext(u, now))
		}
	}
	writeJSON(w, out)
}

func toContext(u secret.InUse, now time.Time) contextJSON {
	c := contextJSON{CAs: []certificateJSON{}, Chain: []certificateJSON{}}
	for _, a := range u.Anchors() {
		c.CAs = append(c.CAs, toCertificate(a.Certificate, a.Path, now))
	}
	for _, own := range u.Certificates {
		leaf := toCertificate(own.Leaf(), own.Path, now)
		if st := own.Staple; st != nil {
			leaf.OCSP = &ocspJSON{From: timestamp(st.ThisUpdate)}
			if !st.NextUpdate.IsZero() {
				leaf.OCSP.Until = timestamp(st.NextUpdate)
			}
		}
		c.Chain = append(c.Chain, leaf)
	}
	return c
}

func toCertificate(c *x509.Certificate, path string, now time.Time) certificateJSON {
	if path == "" {
		path = "<inline>"
	}
	serial := hex.EncodeToString(c.SerialNumber.Bytes())
	if serial == "" {
		serial = "0"
	}
	return certificateJSON{
		Path: path, Serial: serial, Names: altNames(c), Days: decimal(secret.DaysUntil(c.NotAfter, now)),
		From: timestamp(c.NotBefore), Until: timestamp(c.NotAfter),
	}
}

// altNames returns DNS names, then URIs, then addresses.
func altNames(c *x509.Certificate) []altNameJSON {
	all := meta.AltNames(c)
	out := []altNameJSON{}
	for _, kind := range [...]meta.AltKind{meta.DNSName, meta.URIName, meta.IPName} {
		for _, n := range all {
			if n.Kind != kind {
				continue
			}
			text := strings.ToValidUTF8(n.Text, "�")
			switch kind {
			case meta.DNSName:
				out = append(out, altNameJSON{DNS: text})
			case meta.URIName:
				out = append(out, altNameJSON{URI: text})
			default:
				out = append(out, altNameJSON{IP: text})
			}
		}
	}
	return out
}

// timestamp is google.protobuf.Timestamp in JSON; certificates have whole seconds.
func timestamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }
