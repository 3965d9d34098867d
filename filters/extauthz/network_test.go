package extauthz_test

import (
	"context"
	"fmt"
	"testing"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	grpcstatus "google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/mecha-mesh/mecha/filters/extauthz"
	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/filter/filtertest/dialogue"
)

// guard is an authorization service for connections: what it says depends on x-case in
// initial_metadata. What it was told it says in dynamic metadata.
type guard struct {
	authv3.UnimplementedAuthorizationServer
	done chan struct{}
}

// startGuard runs a service until the test ends, and returns its address.
func startGuard(t testing.TB) string {
	t.Helper()
	g := &guard{done: make(chan struct{})}
	at := dialogue.ServeGRPC(t, func(to *grpc.Server) { authv3.RegisterAuthorizationServer(to, g) })
	t.Cleanup(func() { close(g.done) })
	return at.String()
}

// Check implements the service.
func (g *guard) Check(ctx context.Context, q *authv3.CheckRequest) (*authv3.CheckResponse, error) {
	md, _ := metadata.FromIncomingContext(ctx)
	a := q.Attributes
	told := fmt.Sprintf("%v %v %v", a.Source.GetAddress().GetSocketAddress().GetAddress() != "", a.Destination.GetAddress().GetSocketAddress().GetPortValue() > 0, a.Request)
	r := &authv3.CheckResponse{Status: &status.Status{}, DynamicMetadata: &structpb.Struct{Fields: map[string]*structpb.Value{"told": structpb.NewStringValue(told)}}}
	switch name := md.Get("x-case"); {
	case len(name) == 0:
	case name[0] == "denied":
		r.Status.Code = 7
	case name[0] == "broken", name[0] == "broken-allowed":
		return nil, grpcstatus.Error(codes.Internal, "broken")
	case name[0] == "late":
		<-g.done // grpc-timeout tells the server, too, when it is late: it must not answer just then
	}
	return r, nil
}

// TestWholeProxy plays the filter of connections.
func TestWholeProxy(t *testing.T) {
	dialogue.MechaAbout(t, dialogue.Subject{Service: startGuard(t)}, "testdata/whole/*.txt")
}

// FuzzParseConns: no bytes make the parser for connections panic.
func FuzzParseConns(f *testing.F) {
	f.Add([]byte("\n\x01x(\x02"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		_, _ = extauthz.Network.Parse(raw, &filter.Parser{}) // refused or not
	})
}
