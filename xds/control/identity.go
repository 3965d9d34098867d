package control

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"slices"
	"sync"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	secretservice "github.com/envoyproxy/go-control-plane/envoy/service/secret/v3"
	serverv3 "github.com/envoyproxy/go-control-plane/pkg/server/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/mecha-mesh/mecha/xds/ads"
	"github.com/mecha-mesh/mecha/xds/control/ca"
	"github.com/mecha-mesh/mecha/xds/source"
)

// The names that a workload asks for its own certificate and for whom to trust by, as
// under Istio. The folder cannot have secrets of these names while identities are served.
const (
	ownSecret   = "default"
	trustSecret = "ROOTCA"
)

// Identity says who gets certificates. Dir and TrustDomain are required.
type Identity struct {
	CA ca.Options
	// Tokens is a directory with files NAMESPACE/SERVICE-ACCOUNT, each with the bearer token
	// of a workload, for its owner alone; "" takes no tokens.
	Tokens string
	// UIDs are the workloads of users, for who comes over a unix socket.
	UIDs map[uint32]ca.Identity
	// Sockets are addresses ("unix:PATH") that are for one workload each.
	Sockets map[string]ca.Identity
}

// identities serves every workload its certificate, and renews it.
type identities struct {
	secretservice.UnimplementedSecretDiscoveryServiceServer
	hub      *hub
	ca       *ca.Authority
	dir      string
	log      *slog.Logger
	entitled *entitled
	others   serverv3.Server // for who has no identity

	mu      sync.Mutex
	streams map[*workload]struct{}
}

func newIdentities(o *Identity, log *slog.Logger) (*identities, error) {
	o.CA.Log = log
	authority, err := ca.Open(o.CA)
	if err != nil {
		return nil, err
	}
	return &identities{
		ca: authority, dir: o.CA.Dir, log: log, streams: map[*workload]struct{}{},
		entitled: &entitled{tokens: o.Tokens, uids: o.UIDs, owner: uint32(os.Getuid()), log: log},
	}, nil
}

// sotwStream and deltaStream put types around a grpc.ServerStream.
type (
	sotwStream  = grpc.GenericServerStream[discoveryv3.DiscoveryRequest, discoveryv3.DiscoveryResponse]
	deltaStream = grpc.GenericServerStream[discoveryv3.DeltaDiscoveryRequest, discoveryv3.DeltaDiscoveryResponse]
)

// StreamSecrets implements the discovery service for secrets.
func (s *identities) StreamSecrets(stream secretservice.SecretDiscoveryService_StreamSecretsServer) error {
	w, err := s.join(stream.Context())
	if errors.Is(err, errNobody) {
		guarded := withoutNames{stream, make(chan error, 1)}
		return guarded.end(s.others.StreamSecrets(&sotwStream{ServerStream: guarded}))
	}
	if err != nil {
		return err
	}
	defer s.leave(w)
	return w.end(w.server.StreamSecrets(&sotwStream{ServerStream: withContext{stream, w.ctx}}))
}

// DeltaSecrets implements the discovery service for secrets.
func (s *identities) DeltaSecrets(stream secretservice.SecretDiscoveryService_DeltaSecretsServer) error {
	w, err := s.join(stream.Context())
	if errors.Is(err, errNobody) {
		guarded := withoutNames{stream, make(chan error, 1)}
		return guarded.end(s.others.DeltaSecrets(&deltaStream{ServerStream: guarded}))
	}
	if err != nil {
		return err
	}
	defer s.leave(w)
	return w.end(w.server.DeltaSecrets(&deltaStream{ServerStream: withContext{stream, w.ctx}}))
}

// join begins to serve a workload.
func (s *identities) join(ctx context.Context) (*workload, error) {
	c, err := s.entitled.who(ctx)
	if err != nil {
		if !errors.Is(err, errNobody) {
			s.log.Warn("nobody gets a certificate", "error", err)
		}
		return nil, err
	}
	w := newWorkload(ctx, s, c)
	s.mu.Lock()
	s.streams[w] = struct{}{}
	s.mu.Unlock()
	go w.run()
	s.log.Info("workload connected", "identity", c.identity.String())
	return w, nil
}

func (s *identities) leave(w *workload) {
	w.cancel(context.Canceled)
	s.mu.Lock()
	delete(s.streams, w)
	s.mu.Unlock()
	<-w.done
}

// all returns the workloads that are connected.
func (s *identities) all() []*workload {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Collect(maps.Keys(s.streams))
}

// tell lets all workloads have what is new: roots, or secrets of the folder.
func (s *identities) tell() {
	for _, w := range s.all() {
		w.wake()
	}
}

// retryRoots is how soon trouble with the roots is looked at again.
const retryRoots = time.Minute

// watchRoots does with roots what is due, and what a command has done, until ctx ends.
func (s *identities) watchRoots(ctx context.Context) {
	w, err := source.NewWatcher()
	if err == nil {
		defer w.Close()
		err = w.Set(s.dir)
	}
	if err != nil {
		s.log.Warn("a root that is replaced by a command is seen late", "error", err)
	}
	for ctx.Err() == nil {
		var due time.Time
		if changed, err := s.ca.Advance(); err != nil {
			s.log.Error("roots cannot be looked after; those known so far stay in use", "error", err)
			due = time.Now().Add(retryRoots)
		} else if due = s.ca.NextChange(); changed {
			s.tell()
		}
		timed, cancel := context.WithDeadline(ctx, due)
		if w == nil {
			<-timed.Done()
		} else {
			_ = w.Wait(timed, rootsQuiet) // whatever ended it: look
		}
		cancel()
	}
}

// rootsQuiet is how long the directory of roots must be left alone.
const rootsQuiet = 20 * time.Millisecond

// secretsOf are the secrets of the folder for a node, those of workloads left out.
func (h *hub) secretsOf(c *corev3.Node) map[string]*tlsv3.Secret {
	h.mu.Lock()
	defer h.mu.Unlock()
	_, p := h.groupOf(&node{id: c.GetId(), cluster: c.GetCluster()})
	out := map[string]*tlsv3.Secret{}
	if p == nil {
		return out
	}
	for k, r := range p.set {
		if m, ok := r.Message.(*tlsv3.Secret); ok && k.typeURL == ads.SecretType && !reserved(k.name) {
			out[k.name] = m
		}
	}
	return out
}

func reserved(name string) bool { return name == ownSecret || name == trustSecret }

// checkSockets says what is wrong with the addresses.
func (o *Identity) checkSockets() error {
	for address := range o.Sockets {
		if network, _ := ads.SplitAddress(address); network != "unix" {
			return fmt.Errorf("control: %s: keys are handed out over unix sockets alone", address)
		}
	}
	return nil
}

// errGone is why a stream ends whose workload lost its identity.
var errGone = status.Error(codes.PermissionDenied, "this workload's token is not good any more")
