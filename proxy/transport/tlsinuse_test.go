package transport

import (
	"crypto/x509"
	"slices"
	"testing"

	"github.com/mecha-mesh/mecha/proxy/secret"
)

// InUse shows the newest secrets, on either side and below other sockets, and no context
// before its secrets have come.
func TestInUse(t *testing.T) {
	ca := newAuthority(t, "ca")
	first, second := ca.issue(&x509.Certificate{}), ca.issue(&x509.Certificate{})
	source := &replaceable{}
	down, up := &DownstreamTLS{TLS: contextOf()}, &UpstreamTLS{TLS: contextOf(first)}
	down.Certificates = []secret.Source[secret.Certificate]{source}
	if u, ok := InUse(down); ok {
		t.Errorf("a context without its secret: %v", u)
	}
	if _, ok := InUse(Raw{}); ok {
		t.Error("plain text has a context")
	}
	source.v = first
	for _, s := range []Socket{down, up, &ProxyProtocol{Inner: up}, &Internal{Socket: down}} {
		if u, ok := InUse(s); !ok || !slices.Equal(u.Certificates, []*secret.Certificate{first}) {
			t.Errorf("%s: %v %v", s.Key(), u.Certificates, ok)
		}
	}
	source.v = second
	if u, _ := InUse(down); !slices.Equal(u.Certificates, []*secret.Certificate{second}) {
		t.Errorf("after the change: %v", u.Certificates)
	}
}
