package e2e

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/mecha-mesh/mecha/proxy/codec/h2/h2spectest"
)

// h2Listener is a listener that speaks HTTP/2, among others.
func h2Listener(port uint32, action, socket string) string {
	return fmt.Sprintf(`
  - address: {socket_address: {address: 127.0.0.1, port_value: %d}}
    filter_chains:
    - filters:
      - name: http
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: in
          codec_type: HTTP2 # garbage would be HTTP/1
          http2_protocol_options: {max_concurrent_streams: 100}
          http_filters: [{name: router, typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}}]
          route_config: {virtual_hosts: [{name: all, domains: ["*"], routes: [{match: {prefix: /}, %s}]}]}%s
`, port, action, socket)
}

// selfSigned writes a certificate and its key into a folder.
func selfSigned(t *testing.T) (cert, key string) {
	t.Helper()
	priv, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tpl := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), DNSNames: []string{"localhost"}}
	der, err := x509.CreateCertificate(rand.Reader, tpl, tpl, priv.Public(), priv)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := x509.MarshalPKCS8PrivateKey(priv)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	cert, key = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	for file, b := range map[string]*pem.Block{cert: {Type: "CERTIFICATE", Bytes: der}, key: {Type: "PRIVATE KEY", Bytes: raw}} {
		if err := os.WriteFile(file, pem.EncodeToMemory(b), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return cert, key
}

// TestH2spec: mecha passes all cases of h2spec, strict ones included, when it answers by
// itself, when it forwards, and over TLS.
func TestH2spec(t *testing.T) {
	b := startBackend(t, "hello")
	cert, key := selfSigned(t)
	tls := fmt.Sprintf(`
      transport_socket:
        name: tls
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext
          common_tls_context:
            alpn_protocols: [h2, http/1.1]
            tls_certificates: [{certificate_chain: {filename: %q}, private_key: {filename: %q}}]`, cert, key)
	direct := `direct_response: {status: 200, body: {inline_string: hello}}`
	kinds := []struct {
		name, action, socket string
		port                 uint32
	}{
		{"direct", direct, "", freePort(t)},
		{"proxied", `route: {cluster: a}`, "", freePort(t)},
		{"tls", direct, tls, freePort(t)},
	}
	boot := fmt.Sprintf("static_resources:\n  clusters:\n  - %s\n  listeners:", indent(clusterYAML("a", b.port), 4))
	for _, k := range kinds {
		boot += h2Listener(k.port, k.action, k.socket)
	}
	m := startMecha(t, boot)
	m.ready()
	for _, k := range kinds {
		t.Run(k.name, func(t *testing.T) { h2spectest.Run(t, int(k.port), k.socket != "", patience/4) })
	}
}
