package transport

import (
	"crypto/x509"
	"sync"
	"testing"

	"github.com/mecha-mesh/mecha/proxy/secret"
)

// replaceable is a source whose value a test replaces.
type replaceable struct{ v *secret.Certificate }

func (r *replaceable) Current() *secret.Certificate { return r.v }

// TestOneContextForAll: handshakes that meet before there is a context get the same one,
// with the same ticket keys, and it counts as one update when a secret has changed.
func TestOneContextForAll(t *testing.T) {
	ca := newAuthority(t, "ca")
	source := &replaceable{ca.issue(&x509.Certificate{})}
	d := &DownstreamTLS{TLS: contextOf()}
	d.Certificates = []secret.Source[secret.Certificate]{source}
	st := &TLSStats{}
	for round := range uint64(3) {
		var got [8]*serverContext
		var all sync.WaitGroup
		start := make(chan struct{})
		for i := range got {
			all.Go(func() {
				<-start
				var err error
				if got[i], err = d.context(st); err != nil {
					t.Error(err)
				}
			})
		}
		close(start)
		all.Wait()
		for _, sc := range got {
			if sc != got[0] {
				t.Fatalf("round %d: handshakes use different contexts", round)
			}
		}
		if n := st.secrets.Update.Value(); n != round {
			t.Errorf("round %d: %d updates", round, n)
		}
		source.v = ca.issue(&x509.Certificate{})
	}
}
