package grpcweb

import (
	"strings"

	"github.com/mecha-mesh/mecha/proxy/cluster"
	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/header"
	"github.com/mecha-mesh/mecha/proxy/stats"
)

// calls are the counters of a method, under "cluster.<name>.grpc-web.<service>.<method>.".
type calls struct {
	stats.GRPCStatus
	scope *stats.Scope // nil: they are not shown
}

// callsOf returns the counters of the method that the request calls, nil if there are
// none.
func (f *Filter) callsOf(s *filter.Stream) *calls {
	path, _, _ := strings.Cut(s.Request.Value(header.Path), "?")
	service, method, ok := strings.Cut(strings.Trim(path, "/"), "/")
	if !ok || service == "" || method == "" || strings.Contains(method, "/") {
		return nil
	}
	c := s.Target(f.clusters)
	if c == nil {
		return nil
	}
	n, _ := c.Extra(cluster.ExtraStats{Of: "grpc-web", A: service, B: method}, newCalls).(*calls)
	return n
}

func newCalls(sc *stats.Scope, key cluster.ExtraStats) any {
	c := &calls{}
	if sc != nil {
		c.scope = sc.Child("grpc-web").Tag("envoy_grpc_bridge_service", key.A).Tag("envoy_grpc_bridge_method", key.B)
		c.scope.Bind(&c.GRPCStatus)
	}
	return c
}

// count counts a call, if m has its status.
func (c *calls) count(m *header.Map) {
	if c == nil || !m.Has(header.GrpcStatus) {
		return
	}
	c.Count(c.scope, m.Value(header.GrpcStatus))
}
