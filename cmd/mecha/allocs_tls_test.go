package main

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/mecha-mesh/mecha/proxy/buffer"
)

// TestAllocationsTLS: encryption on both sides, with certificates on both sides of each,
// costs a request nothing from the heap but what package crypto/tls takes for each read of a
// record's bytes (24 bytes), half of which are those of the test's own client and upstream.
func TestAllocationsTLS(t *testing.T) {
	if raceEnabled || buffer.Invariants {
		t.Skip("instrumented build")
	}
	own, chain, key := selfSigned(t)
	socket := func(kind, indent, more string) string {
		return fmt.Sprintf(`%stransport_socket: {name: tls, typed_config: {"@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.%s, %s
      common_tls_context: {
        tls_certificates: [{certificate_chain: {inline_string: %q}, private_key: {inline_string: %q}}],
        validation_context: {trusted_ca: {inline_string: %q}}}}}`, indent, kind, more, chain, key, chain)
	}
	trust := x509.NewCertPool()
	trust.AddCert(own.Leaf)
	get := []byte("GET /a/b?c=d HTTP/1.1\r\nHost: shop.example.com\r\nUser-Agent: test\r\nAccept: */*\r\n\r\n")
	post := []byte("POST /a HTTP/1.1\r\nHost: shop.example.com\r\nContent-Length: 16384\r\n\r\n" + strings.Repeat("q", 16<<10-1) + "z")
	answer := func(n int) []byte {
		return fmt.Appendf(nil, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%sz", n, strings.Repeat("r", n-1))
	}
	for _, c := range []struct {
		name, filters     string
		send, ask, answer []byte
		matches           bool // the host is one of several kinds (transport_socket_matches)
		reads             float64
	}{
		{"GET", httpListener, get, []byte("\r\n\r\n"), answer(1024), false, 4},
		{"GET, matched", httpListener, get, []byte("\r\n\r\n"), answer(1024), true, 4},
		{"POST 16 KiB", httpListener, post, []byte("z"), answer(2), false, 6},
		{"64 KiB answer", httpListener, get, []byte("\r\n\r\n"), answer(64 << 10), false, 16},
		{"TCP", relayListener, []byte("hello z"), []byte("z"), []byte("answer z"), false, 4},
	} {
		t.Run(c.name, func(t *testing.T) {
			l, err := net.Listen("tcp4", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			answerOn(t, tls.NewListener(l, &tls.Config{
				Certificates: []tls.Certificate{own}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: trust,
			}), c.ask, c.answer)
			down := socket("DownstreamTlsContext", "\n      ", "require_client_certificate: true,")
			up := socket("UpstreamTlsContext", "\n    ", "")
			if c.matches {
				up = "\n    transport_socket_matches: [{name: tls, match: {}, " + strings.TrimSpace(up) + "}]"
			}
			raw := throughProxy(t, c.filters+down, l.Addr().(*net.TCPAddr).Port, up)
			conn := tls.Client(raw, &tls.Config{Certificates: []tls.Certificate{own}, RootCAs: trust, ServerName: "test"})
			got := make([]byte, 64<<10)
			exchange := func() {
				if _, err := conn.Write(c.send); err != nil {
					t.Fatal(err)
				}
				for n := 0; !bytes.HasSuffix(got[:n], []byte("z")); {
					var err error
					if n, err = conn.Read(got); err != nil {
						t.Fatal(err)
					}
				}
			}
			for range 300 { // fills pools, and the journal
				exchange()
			}
			if n := testing.AllocsPerRun(500, exchange); n > c.reads {
				t.Errorf("%v allocations for each exchange, want %v at most", n, c.reads)
			}
		})
	}
}

// selfSigned returns a certificate that is its own CA, and both parts of it as PEM.
func selfSigned(t *testing.T) (own tls.Certificate, chain, key string) {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{
		SerialNumber: big.NewInt(1), DNSNames: []string{"test"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, c, c, k.Public(), k)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	chain = string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	key = string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: raw}))
	own, err = tls.X509KeyPair([]byte(chain), []byte(key))
	if err != nil {
		t.Fatal(err)
	}
	return own, chain, key
}
