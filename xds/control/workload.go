package control

import (
	"context"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/envoyproxy/go-control-plane/pkg/cache/types"
	cachev3 "github.com/envoyproxy/go-control-plane/pkg/cache/v3"
	serverv3 "github.com/envoyproxy/go-control-plane/pkg/server/v3"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"github.com/mecha-mesh/mecha/xds/ads"
	"github.com/mecha-mesh/mecha/xds/control/ca"
)

// workload is one stream of secrets to a workload. It has a key of its own, which is in
// memory for as long as the stream is open.
type workload struct {
	s      *identities
	claim  claim
	ctx    context.Context
	cancel context.CancelCauseFunc
	cache  *cachev3.LinearCache
	server serverv3.Server
	news   chan struct{} // has room for one
	done   chan struct{} // closed when run has ended

	mu     sync.Mutex
	node   *corev3.Node
	served map[string]bool // secrets of the folder
	cert   *ca.Certificate // nil until it is asked for
}

func newWorkload(ctx context.Context, s *identities, c claim) *workload {
	w := &workload{s: s, claim: c, news: make(chan struct{}, 1), done: make(chan struct{}), served: map[string]bool{}}
	w.ctx, w.cancel = context.WithCancelCause(ctx)
	// Versions begin with chance, so that those of a stream before mean nothing.
	prefix := time.Now().UTC().Format("20060102T150405.000000000Z-")
	w.cache = cachev3.NewLinearCache(ads.SecretType, cachev3.WithVersionPrefix(prefix), cachev3.WithLogger(quietLog{}))
	w.server = serverv3.NewServer(w.ctx, w.cache, serverv3.CallbackFuncs{
		StreamRequestFunc: func(_ int64, r *discoveryv3.DiscoveryRequest) error {
			return w.asked(r, r.GetResourceNames())
		},
		StreamDeltaRequestFunc: func(_ int64, r *discoveryv3.DeltaDiscoveryRequest) error {
			return w.asked(r, r.GetResourceNamesSubscribe())
		},
	})
	return w
}

// asked prepares what a request asks for, before the cache looks for it.
func (w *workload) asked(r message, names []string) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if n := r.GetNode(); n != nil && w.node == nil {
		w.node = n
	}
	if e := r.GetErrorDetail(); e != nil {
		w.s.log.Warn("workload refused secrets", "identity", w.claim.identity.String(), "detail", e.GetMessage())
	}
	if slices.Contains(names, ownSecret) && w.cert == nil {
		if err := w.issue(); err != nil {
			return err
		}
		w.wake() // it has to be renewed
	}
	return w.put()
}

// wake lets run look at what is new.
func (w *workload) wake() {
	select {
	case w.news <- struct{}{}:
	default:
	}
}

// issue makes the next certificate. The lock is held.
func (w *workload) issue() error {
	c, err := w.s.ca.Issue(w.claim.identity)
	if err != nil {
		w.s.log.Error("no certificate", "identity", w.claim.identity.String(), "error", err)
		return err
	}
	w.cert = c
	w.s.log.Info("certificate issued", "identity", w.claim.identity.String(), "serial", c.Serial, "until", c.NotAfter)
	return nil
}

// put gives the cache what the workload may have now; what has not changed is not sent
// again. The lock is held.
func (w *workload) put() error {
	update := map[string]types.Resource{trustSecret: trust(w.s.ca.Bundle())}
	if w.cert != nil {
		update[ownSecret] = own(w.cert)
	}
	for name, m := range w.s.hub.secretsOf(w.node) {
		update[name] = m
	}
	var removed []string
	for name := range w.served {
		if update[name] == nil {
			removed = append(removed, name)
			delete(w.served, name)
		}
	}
	have := w.cache.GetResources()
	for name, m := range update {
		w.served[name] = true
		if old := have[name]; old != nil && proto.Equal(old, m) {
			delete(update, name)
		}
	}
	if len(update)+len(removed) == 0 {
		return nil
	}
	return w.cache.UpdateResources(update, removed)
}

// run renews the certificate well before it expires, until the stream ends.
func (w *workload) run() {
	defer close(w.done)
	for chance := rand.Float64(); ; {
		w.mu.Lock()
		due := time.Now().Add(time.Hour)
		if w.cert != nil {
			due = w.cert.RenewAt(chance)
		}
		w.mu.Unlock()
		t := time.NewTimer(time.Until(due))
		select {
		case <-w.ctx.Done():
			t.Stop()
			return
		case <-w.news:
			t.Stop()
			w.renew(false)
		case <-t.C:
			chance = rand.Float64()
			w.renew(true)
		}
	}
}

// renew gives the workload what is new, and with certificate a new certificate.
func (w *workload) renew(certificate bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.s.entitled.still(w.claim) {
		w.s.log.Warn("a workload is not entitled to its identity any more", "identity", w.claim.identity.String())
		w.cancel(errGone)
		return
	}
	if certificate && w.cert != nil {
		if err := w.issue(); err != nil {
			w.cancel(err)
			return
		}
	}
	if err := w.put(); err != nil {
		w.s.log.Error("secrets cannot be served", "identity", w.claim.identity.String(), "error", err)
		w.cancel(err) // it comes back
	}
}

// end is the status that a stream ends with.
func (w *workload) end(err error) error {
	if cause := context.Cause(w.ctx); cause != nil && cause != context.Canceled {
		return cause
	}
	return err
}

func own(c *ca.Certificate) *tlsv3.Secret {
	return &tlsv3.Secret{Name: ownSecret, Type: &tlsv3.Secret_TlsCertificate{TlsCertificate: &tlsv3.TlsCertificate{
		CertificateChain: inlineBytes(c.Chain), PrivateKey: inlineBytes(c.Key),
	}}}
}

func trust(bundle []byte) *tlsv3.Secret {
	return &tlsv3.Secret{Name: trustSecret, Type: &tlsv3.Secret_ValidationContext{ValidationContext: &tlsv3.CertificateValidationContext{
		TrustedCa: inlineBytes(bundle),
	}}}
}

func inlineBytes(b []byte) *corev3.DataSource {
	return &corev3.DataSource{Specifier: &corev3.DataSource_InlineBytes{InlineBytes: b}}
}

// withContext is a stream that ends with a context of ours.
type withContext struct {
	grpc.ServerStream
	ctx context.Context
}

// Context implements grpc.ServerStream.
func (s withContext) Context() context.Context { return s.ctx }

// withoutNames is the stream of who has no identity: it ends with the question for a
// workload's secrets.
type withoutNames struct {
	grpc.ServerStream
	refused chan error // has room for one
}

// RecvMsg implements grpc.ServerStream.
func (s withoutNames) RecvMsg(m any) error {
	if err := s.ServerStream.RecvMsg(m); err != nil {
		return err
	}
	var names []string
	switch r := m.(type) {
	case *discoveryv3.DiscoveryRequest:
		names = r.GetResourceNames()
	case *discoveryv3.DeltaDiscoveryRequest:
		names = r.GetResourceNamesSubscribe()
	}
	if !slices.ContainsFunc(names, reserved) {
		return nil
	}
	select {
	case s.refused <- errNobody:
	default:
	}
	return errNobody
}

// end is the status that the stream ends with.
func (s withoutNames) end(err error) error {
	select {
	case refused := <-s.refused:
		return refused
	default:
		return err
	}
}
