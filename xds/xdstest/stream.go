package xdstest

import (
	"context"
	"strings"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

type service struct{ s *Server }

// any serves a stream of whatever discovery service: ADS, or the service of one type.
func (v service) any(_ any, g grpc.ServerStream) error {
	method, _ := grpc.MethodFromServerStream(g)
	header, _ := metadata.FromIncomingContext(g.Context())
	name := method[strings.LastIndexByte(method, '/')+1:]
	describe := func(r Request, node *corev3.Node) Request {
		r.Method, r.Header, r.Node, r.NodeID = method, header, node, node.GetId()
		return r
	}
	if strings.HasPrefix(name, "Delta") {
		recv := func() (Request, error) {
			r := &discoveryv3.DeltaDiscoveryRequest{}
			err := g.RecvMsg(r)
			return describe(Request{
				Delta: true, TypeURL: r.GetTypeUrl(), Nonce: r.GetResponseNonce(),
				Error: r.GetErrorDetail().GetMessage(), Names: r.GetResourceNamesSubscribe(),
				Unsubscribe: r.GetResourceNamesUnsubscribe(), Initial: r.GetInitialResourceVersions(),
			}, r.GetNode()), err
		}
		return v.s.serve(g.Context(), true, recv, func(r Reply) error { return g.SendMsg(r.Delta()) })
	}
	recv := func() (Request, error) {
		r := &discoveryv3.DiscoveryRequest{}
		err := g.RecvMsg(r)
		return describe(Request{
			TypeURL: r.GetTypeUrl(), Version: r.GetVersionInfo(), Nonce: r.GetResponseNonce(),
			Error: r.GetErrorDetail().GetMessage(), Names: r.GetResourceNames(),
		}, r.GetNode()), err
	}
	return v.s.serve(g.Context(), false, recv, func(r Reply) error { return g.SendMsg(r.SotW()) })
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
