package xdstest

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sort"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/mecha-mesh/mecha/xds/ads"
)

type service struct {
	discoveryv3.UnimplementedAggregatedDiscoveryServiceServer
	s *Server
}

// StreamAggregatedResources serves one SotW client.
func (v service) StreamAggregatedResources(g discoveryv3.AggregatedDiscoveryService_StreamAggregatedResourcesServer) error {
	recv := func() (Request, error) {
		r, err := g.Recv()
		if err != nil {
			return Request{}, err
		}
		return Request{
			TypeURL: r.GetTypeUrl(), NodeID: r.GetNode().GetId(), Version: r.GetVersionInfo(), Nonce: r.GetResponseNonce(),
			Error: r.GetErrorDetail().GetMessage(), Names: r.GetResourceNames(),
		}, nil
	}
	send := func(r reply) error {
		out := &discoveryv3.DiscoveryResponse{TypeUrl: r.typeURL, VersionInfo: r.version, Nonce: r.nonce}
		for _, name := range r.names {
			out.Resources = append(out.Resources, r.entries[name].body)
		}
		return g.Send(out)
	}
	return v.s.serve(g.Context(), &stream{types: map[string]*subscription{}}, recv, send)
}

// DeltaAggregatedResources serves one delta client.
func (v service) DeltaAggregatedResources(g discoveryv3.AggregatedDiscoveryService_DeltaAggregatedResourcesServer) error {
	recv := func() (Request, error) {
		r, err := g.Recv()
		if err != nil {
			return Request{}, err
		}
		return Request{
			Delta: true, TypeURL: r.GetTypeUrl(), NodeID: r.GetNode().GetId(), Nonce: r.GetResponseNonce(),
			Error: r.GetErrorDetail().GetMessage(), Names: r.GetResourceNamesSubscribe(),
			Unsubscribe: r.GetResourceNamesUnsubscribe(), Initial: r.GetInitialResourceVersions(),
		}, nil
	}
	send := func(r reply) error {
		out := &discoveryv3.DeltaDiscoveryResponse{
			TypeUrl: r.typeURL, SystemVersionInfo: r.version, Nonce: r.nonce, RemovedResources: r.removed,
		}
		for _, name := range r.names {
			e := r.entries[name]
			out.Resources = append(out.Resources, &discoveryv3.Resource{Name: name, Version: e.version, Resource: e.body})
		}
		return g.Send(out)
	}
	return v.s.serve(g.Context(), &stream{delta: true, types: map[string]*subscription{}}, recv, send)
}

// stream is one client connection; its fields are guarded by the server's mutex.
type stream struct {
	id     int
	delta  bool
	nonces int
	types  map[string]*subscription
	drop   context.CancelFunc
}

// subscription is what a client asked for and was sent, of one type.
type subscription struct {
	wildcard bool
	legacy   bool // wildcard because no name was ever given
	names    map[string]struct{}
	known    map[string]string // name -> version sent
	nonce    string
	owed     bool // answer even if there is nothing new
}

type reply struct {
	typeURL, version, nonce string
	names, removed          []string
	entries                 map[string]entry
}

func (s *Server) serve(ctx context.Context, st *stream, recv func() (Request, error), send func(reply) error) error {
	ctx, st.drop = context.WithCancel(ctx)
	defer st.drop()
	s.mu.Lock()
	s.opened++
	st.id = s.opened
	s.streams[st] = struct{}{}
	s.most = max(s.most, len(s.streams))
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		delete(s.streams, st)
		s.mu.Unlock()
	}()
	go func() { // ends with the stream: grpc fails Recv when the handler returns
		defer st.drop()
		for {
			r, err := recv()
			if err != nil {
				return
			}
			s.mu.Lock()
			s.accept(st, r)
			s.mu.Unlock()
		}
	}()
	for {
		s.mu.Lock()
		r, ok := s.due(st)
		changed := s.changed
		s.mu.Unlock()
		if ok {
			if err := send(r); err != nil {
				return err
			}
			continue
		}
		select {
		case <-ctx.Done():
			return status.Error(codes.Unavailable, "xdstest: stream dropped")
		case <-changed:
		}
	}
}

func (s *Server) accept(st *stream, r Request) {
	r.Stream, r.Delta = st.id, st.delta
	s.requests = append(s.requests, r)
	s.wakeLocked()
	sub := st.types[r.TypeURL]
	first := sub == nil
	if first {
		sub = &subscription{names: map[string]struct{}{}, known: map[string]string{}, legacy: true, owed: true}
		st.types[r.TypeURL] = sub
	}
	if st.delta {
		sub.acceptDelta(r, first)
		return
	}
	if !first && r.Nonce != sub.nonce {
		return // about an older response: the client answers the newest too
	}
	sub.legacy = sub.legacy && len(r.Names) == 0
	sub.wildcard = sub.legacy
	names := map[string]struct{}{}
	for _, name := range r.Names {
		if name == ads.Wildcard {
			sub.wildcard = true
			continue
		}
		names[name] = struct{}{}
	}
	for name := range sub.known {
		if _, ok := names[name]; !ok && !sub.wildcard {
			delete(sub.known, name) // asked for again later, it is sent again
		}
	}
	sub.names = names
}

func (sub *subscription) acceptDelta(r Request, first bool) {
	if first {
		maps.Copy(sub.known, r.Initial)
		sub.wildcard = len(r.Names) == 0
	}
	sub.legacy = sub.legacy && len(r.Names) == 0
	for _, name := range r.Names {
		if name == ads.Wildcard {
			sub.wildcard = true
			continue
		}
		sub.names[name] = struct{}{}
		if !first {
			delete(sub.known, name) // asked for by name: send it, whatever was sent before
		}
	}
	for _, name := range r.Unsubscribe {
		if name == ads.Wildcard {
			sub.wildcard = false
			continue
		}
		delete(sub.names, name)
		delete(sub.known, name)
	}
}

// order of responses: what others depend on first.
func order(types map[string]*subscription) []string {
	rank := []string{ads.ClusterType, ads.EndpointType, ads.ListenerType, ads.RouteType}
	urls := slices.Collect(maps.Keys(types))
	sort.Slice(urls, func(i, j int) bool {
		a, b := slices.Index(rank, urls[i]), slices.Index(rank, urls[j])
		return a < b || a == b && urls[i] < urls[j]
	})
	return urls
}

// due builds the next response of a stream and counts it as sent.
func (s *Server) due(st *stream) (reply, bool) {
	if s.held > 0 {
		return reply{}, false
	}
	for _, url := range order(st.types) {
		sub := st.types[url]
		r := reply{typeURL: url, entries: maps.Clone(s.resources[url]), version: fmt.Sprintf("e%d.%d", s.epoch, s.seq)}
		full := !st.delta && (url == ads.ClusterType || url == ads.ListenerType)
		var fresh, all []string
		for name, e := range r.entries {
			_, named := sub.names[name]
			if !named && !sub.wildcard {
				continue
			}
			all = append(all, name)
			if sub.known[name] != e.version {
				fresh = append(fresh, name)
			}
		}
		for name := range sub.known {
			if _, ok := r.entries[name]; !ok {
				r.removed = append(r.removed, name)
			}
		}
		if len(fresh) == 0 && !sub.owed && (len(r.removed) == 0 || !st.delta && !full) {
			continue
		}
		if r.names = fresh; full {
			r.names = all
		}
		slices.Sort(r.names)
		slices.Sort(r.removed)
		for _, name := range r.names {
			sub.known[name] = r.entries[name].version
		}
		for _, name := range r.removed {
			delete(sub.known, name)
		}
		st.nonces++
		r.nonce = fmt.Sprintf("n%d.%d", st.id, st.nonces)
		sub.nonce, sub.owed = r.nonce, false
		return r, true
	}
	return reply{}, false
}

// Any packs bytes under a type URL, for SetRaw.
func Any(typeURL string, value []byte) *anypb.Any { return &anypb.Any{TypeUrl: typeURL, Value: value} }
