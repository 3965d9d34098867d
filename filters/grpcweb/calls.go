package grpcweb

import (
	"strconv"
	"strings"
	"sync/atomic"

	"github.com/mecha-mesh/mecha/proxy/cluster"
	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/header"
	"github.com/mecha-mesh/mecha/proxy/stats"
)

// counters are those of a method, under "cluster.<name>.grpc-web.<service>.<method>.".
type counters struct {
	Success stats.Counter `stat:"success" help:"calls that ended with the status 0"`
	Failure stats.Counter `stat:"failure" help:"calls that ended with another status"`
	Total   stats.Counter `stat:"total" help:"calls that ended with a status"`
}

// calls are the counters and, once there is something to count, one for each status.
type calls struct {
	counters
	scope  *stats.Scope // nil: they are not shown
	status [17]atomic.Pointer[stats.Counter]
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
		c.scope.Bind(&c.counters)
	}
	return c
}

// count counts a call, if m has its status.
func (c *calls) count(m *header.Map) {
	if c == nil || !m.Has(header.GrpcStatus) {
		return
	}
	status := m.Value(header.GrpcStatus)
	c.Total.Inc()
	if status == "0" {
		c.Success.Inc()
	} else {
		c.Failure.Inc()
	}
	n, err := strconv.ParseUint(status, 10, 8)
	if err != nil || n >= uint64(len(c.status)) || c.scope == nil {
		return
	}
	k := c.status[n].Load()
	if k == nil {
		k = c.scope.Counter(strconv.FormatUint(n, 10), "calls that ended with this status")
		c.status[n].Store(k)
	}
	k.Inc()
}
