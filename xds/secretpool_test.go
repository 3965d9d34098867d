package xds_test

import (
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"

	"github.com/mecha-mesh/mecha/xds/xdstest"
)

// TestClientCertificateReplaced: connections to hosts that are open stay as they are, in the
// middle of a request too, and new ones show the new certificate.
func TestClientCertificateReplaced(t *testing.T) {
	server := newPair(t, 100)
	own, err := tls.X509KeyPair([]byte(server.cert), []byte(server.key))
	if err != nil {
		t.Fatal(err)
	}
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{own}, ClientAuth: tls.RequireAnyClientCert})
	if err != nil {
		t.Fatal(err)
	}
	held, release := make(chan struct{}), make(chan struct{})
	h := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/hold" {
			close(held)
			<-release
		}
		_, _ = io.WriteString(w, r.TLS.PeerCertificates[0].SerialNumber.String()) // a client that is gone needs no answer
	})}
	go func() { _ = h.Serve(l) }() // ends with Close
	defer h.Close()                //nolint:errcheck // it was only used here
	plane := xdstest.New(t)
	c := xdstest.StaticCluster("up", "127.0.0.1", uint32(l.Addr().(*net.TCPAddr).Port))
	c.TransportSocket = message(t, &corev3.TransportSocket{}, `
name: tls
typed_config:
  "@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext
  sni: test
  common_tls_context:
    tls_certificate_sds_secret_configs: [`+named("own", sdsStream, "0s")+`]
    validation_context_sds_secret_config: `+named("roots", sdsStream, "0s"))
	route := `route_config: {name: r, virtual_hosts: [{name: v, domains: ["*"], routes: [{match: {prefix: /}, route: {cluster: up, timeout: 0s}}]}]}` + routerFilter
	plane.Set(newPair(t, 1).secret("own"), server.trust("roots"), c, httpListener(t, "l", route))
	k := proxyOf(t, plane, strings.Replace(fmt.Sprintf(overADS, "GRPC"), "lds_config", "cds_config: {ads: {}}, lds_config", 1))
	k.port("l") // it is there
	slow := make(chan string, 1)
	go func() { slow <- k.get("l", "/hold") }()
	<-held
	plane.Set(newPair(t, 2).secret("own"))
	until(t, "the update", func() bool { return k.stat("sds.own.update_success") == 2 })
	if got := k.get("l", "/"); got != "200 2" { // the only connection is busy
		t.Error(got)
	}
	close(release)
	if got := <-slow; got != "200 1" {
		t.Error(got)
	}
	if n := k.stat("cluster.up.upstream_cx_destroy"); n > 0 {
		t.Errorf("%d connections were closed", n)
	}
	if n := k.stat("cluster.up.client_ssl_socket_factory.ssl_context_update_by_sds"); n != 1 {
		t.Errorf("ssl_context_update_by_sds is %d", n)
	}
}
