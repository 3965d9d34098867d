package dialogue

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
)

// endpoint is how a script's end of a connection does TLS.
type endpoint struct {
	Cert    string   `yaml:"cert"` // of the run's certificates
	SNI     string   `yaml:"sni"`
	ALPN    []string `yaml:"alpn"`
	Min     string   `yaml:"min"` // "1.2"
	Max     string   `yaml:"max"`
	Ciphers []string `yaml:"ciphers"` // names of package crypto/tls, below 1.3
	Curves  []string `yaml:"curves"`  // X25519, P-256...
	Ask     bool     `yaml:"ask"`     // a server asks for a certificate
	Require bool     `yaml:"require"` // and requires one
	Plain   bool     `yaml:"plain"`   // a client that doesn't do TLS after all
}

var versions = map[string]uint16{"": 0, "1.0": tls.VersionTLS10, "1.1": tls.VersionTLS11, "1.2": tls.VersionTLS12, "1.3": tls.VersionTLS13}

// config returns what package crypto/tls is told. What the peer shows is not verified.
func (e *endpoint) config(p *pki) (*tls.Config, error) {
	c := &tls.Config{
		InsecureSkipVerify: true, ServerName: e.SNI, NextProtos: e.ALPN, MinVersion: versions[e.Min], MaxVersion: versions[e.Max],
		CurvePreferences: []tls.CurveID{tls.X25519, tls.CurveP256},
	}
	if e.Curves != nil {
		c.CurvePreferences = nil
	}
	for _, name := range e.Curves {
		id, ok := map[string]tls.CurveID{"X25519": tls.X25519, "P-256": tls.CurveP256, "P-384": tls.CurveP384, "P-521": tls.CurveP521, "X25519MLKEM768": tls.X25519MLKEM768}[name]
		if !ok {
			return nil, fmt.Errorf("no curve %q", name)
		}
		c.CurvePreferences = append(c.CurvePreferences, id)
	}
	for _, name := range e.Ciphers {
		for _, s := range append(tls.CipherSuites(), tls.InsecureCipherSuites()...) {
			if s.Name == name {
				c.CipherSuites = append(c.CipherSuites, s.ID)
			}
		}
	}
	if len(c.CipherSuites) != len(e.Ciphers) {
		return nil, fmt.Errorf("unknown ciphers among %q", e.Ciphers)
	}
	switch {
	case e.Require:
		c.ClientAuth = tls.RequireAnyClientCert
	case e.Ask:
		c.ClientAuth = tls.RequestClientCert
	}
	if e.Cert == "" {
		return c, nil
	}
	own := p.certs[e.Cert]
	if own == nil {
		return nil, fmt.Errorf("no certificate %q", e.Cert)
	}
	pair := tls.Certificate{PrivateKey: own.key}
	for _, x := range own.chain {
		pair.Certificate = append(pair.Certificate, x.Raw)
	}
	c.Certificates = []tls.Certificate{pair}
	// Whatever the server says that it takes: it is to refuse it.
	c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &pair, nil }
	return c, nil
}

// secure puts TLS over a connection of the script, if the case says so.
func (s *site) secure(who string, c net.Conn, set *settings) (net.Conn, error) {
	var e *endpoint
	switch {
	case client(who):
		if e = set.Clients[who]; e == nil {
			e = set.Client
		}
	case who[0] == 'u':
		e = set.UpTLS
	}
	if e == nil || e.Plain {
		return c, nil
	}
	key := fmt.Sprint(client(who), *e)
	s.mu.Lock()
	defer s.mu.Unlock()
	config := s.configs[key]
	if config == nil {
		var err error
		if config, err = e.config(s.pki); err != nil {
			return nil, err
		}
		config.ClientSessionCache = tls.NewLRUClientSessionCache(0)
		if s.configs == nil {
			s.configs = map[string]*tls.Config{}
		}
		s.configs[key] = config
	}
	if client(who) {
		return tls.Client(c, config), nil
	}
	return tls.Server(c, config), nil
}

// tlsState says what a handshake has agreed on, as the script's end sees it.
func (w *wire) tlsState() string {
	c, ok := w.c.(*tls.Conn)
	if !ok {
		return "(plain)"
	}
	if err := c.Handshake(); err != nil {
		return ending(err, false)
	}
	s := c.ConnectionState()
	words := []string{tls.VersionName(s.Version), tls.CipherSuiteName(s.CipherSuite), s.CurveID.String()}
	if s.NegotiatedProtocol != "" {
		words = append(words, "alpn="+s.NegotiatedProtocol)
	}
	if s.DidResume {
		words = append(words, "resumed")
	}
	for _, x := range s.PeerCertificates {
		words = append(words, certificateName(x))
	}
	if s.OCSPResponse != nil {
		words = append(words, "staple")
	}
	if s.ServerName != "" && strings.HasPrefix(w.who, "u") {
		words = append(words, "sni="+s.ServerName)
	}
	return strings.Join(words, " ")
}

func certificateName(x *x509.Certificate) string {
	return "cert=" + strings.ReplaceAll(x.Subject.CommonName, " ", "_")
}

// refusals are the alerts about a certificate.
var refusals = map[string]bool{
	"bad certificate": true, "unknown certificate authority": true, "expired certificate": true, "unsupported certificate": true,
	"unknown certificate": true, "revoked certificate": true, "bad certificate hash value": true,
}

// alert is how a connection ended if TLS has said why, "" if not.
func alert(err error) string {
	var sent tls.AlertError
	var op *net.OpError
	var record tls.RecordHeaderError
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return ""
	case errors.As(err, &op) && op.Op == "remote error":
		if text := strings.TrimPrefix(op.Err.Error(), "tls: "); !refusals[text] {
			return "(" + text + ")"
		}
		return "(certificate refused)" // mecha does not say why, see docs/differences.md
	case errors.As(err, &record):
		return "(not TLS)"
	case errors.As(err, &sent):
		return "(" + sent.Error() + ")"
	case err != nil && strings.HasPrefix(err.Error(), "tls: "):
		text, _, _ := strings.Cut(strings.TrimPrefix(err.Error(), "tls: "), ": [") // what was offered, which says nothing
		text, _, _ = strings.Cut(text, "; client offered")
		return "(" + text + ")"
	}
	return ""
}
