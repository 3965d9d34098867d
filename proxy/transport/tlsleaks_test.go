package transport

import (
	"context"
	"crypto/x509"
	"errors"
	"os"
	"runtime"
	"testing"
	"time"

	"github.com/mecha-mesh/mecha/proxy/meta"
	"github.com/mecha-mesh/mecha/proxy/netio"
	"github.com/mecha-mesh/mecha/proxy/secret"
)

// TestFailedHandshakesLeaveNothing: neither descriptors nor goroutines are left of
// handshakes that fail, whoever is at fault.
func TestFailedHandshakesLeaveNothing(t *testing.T) {
	ca, other := newAuthority(t, "ca"), newAuthority(t, "other")
	down := &DownstreamTLS{TLS: contextOf(ca.issue(&x509.Certificate{})), RequireClientCertificate: true}
	down.ValidationBase = &secret.Validation{CAs: []*x509.Certificate{ca.cert}}
	distrusts := &UpstreamTLS{TLS: contextOf()}
	distrusts.ValidationBase = &secret.Validation{CAs: []*x509.Certificate{other.cert}}
	foreign := &UpstreamTLS{TLS: contextOf(other.issue(&x509.Certificate{}))}
	ended, cancel := context.WithCancelCause(t.Context())
	gone := errors.New("the client has gone")
	cancel(gone)
	says := func(text string) func(c *netio.Conn) error {
		return func(c *netio.Conn) error {
			_, err := c.Write([]byte(text))
			return errors.Join(err, c.Close())
		}
	}
	with := func(up *UpstreamTLS) func(c *netio.Conn) error {
		return func(c *netio.Conn) error {
			conn, err := up.Client(t.Context(), c, nil)
			if err == nil { // it has not been told yet
				_, _ = conn.Read(make([]byte, 1))
				_ = conn.Close()
			}
			return nil
		}
	}
	round := func() {
		for name, client := range map[string]func(c *netio.Conn) error{
			"silent": says(""), "half": says("\x16\x03\x01\x40\x00x"), "nonsense": says("\x00\x00\x00\x00\x00\x00\x00"),
			"distrusts": with(distrusts), "foreign": with(foreign), "nameless": with(&UpstreamTLS{TLS: contextOf()}),
		} {
			c, s := sockets(t)
			done := make(chan error, 1)
			go func() { done <- client(c) }()
			if _, err := down.Server(t.Context(), s, &meta.Conn{}, &TLSStats{}); err == nil {
				t.Errorf("%s: a handshake", name)
			}
			if err := <-done; err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
		c, s := sockets(t)
		if _, err := distrusts.Client(ended, c, nil); !errors.Is(err, gone) {
			t.Errorf("a handshake that was given up: %v", err)
		}
		_ = s.Close() // nobody is left
	}
	round()
	files, goroutines := descriptors(t), runtime.NumGoroutine()
	for range 50 {
		round()
	}
	deadline := time.Now().Add(20 * time.Second)
	for descriptors(t) > files || runtime.NumGoroutine() > goroutines {
		if time.Now().After(deadline) {
			t.Fatalf("%d descriptors of %d, %d goroutines of %d", descriptors(t), files, runtime.NumGoroutine(), goroutines)
		}
		runtime.Gosched() // those that are ending
	}
}

func descriptors(t *testing.T) int {
	t.Helper()
	list, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Skip(err)
	}
	return len(list)
}
