package xdstest

import (
	"context"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
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
	return v.s.serve(g.Context(), false, recv, func(r Reply) error { return g.Send(r.SotW()) })
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
	return v.s.serve(g.Context(), true, recv, func(r Reply) error { return g.Send(r.Delta()) })
}

// serve runs one stream until the client, Kill or DropStreams ends it.
func (s *Server) serve(ctx context.Context, delta bool, recv func() (Request, error), send func(Reply) error) error {
	ctx, drop := context.WithCancel(ctx)
	defer drop()
	s.mu.Lock()
	s.opened++
	id := s.opened
	st := NewSession(id, delta)
	s.streams[st] = drop
	s.most = max(s.most, len(s.streams))
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		delete(s.streams, st)
		s.mu.Unlock()
	}()
	go func() { // ends with the stream: grpc fails Recv when the handler returns
		defer drop()
		for {
			r, err := recv()
			if err != nil {
				return
			}
			r.Stream = id
			s.mu.Lock()
			s.requests = append(s.requests, r)
			st.Accept(r)
			s.wakeLocked()
			s.mu.Unlock()
		}
	}()
	for {
		s.mu.Lock()
		var r Reply
		due := false
		if s.held == 0 {
			r, due = s.plane.Due(st)
		}
		changed := s.changed
		s.mu.Unlock()
		if due {
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
