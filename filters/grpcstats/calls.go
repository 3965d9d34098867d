package grpcstats

import (
	"strings"
	"sync/atomic"

	"github.com/mecha-mesh/mecha/proxy/cluster"
	"github.com/mecha-mesh/mecha/proxy/stats"
)

// counters are those of one method, under "cluster.<name>.grpc.<service>.<method>.", or of
// all that have no name of their own, under "cluster.<name>.grpc.".
type counters struct {
	stats.GRPCStatus
	Requests  stats.Counter `stat:"request_message_count" help:"Messages of requests."`
	Responses stats.Counter `stat:"response_message_count" help:"Messages of responses."`
}

// calls are the counters of calls and, once there is something to count, upstream_rq_time.
type calls struct {
	counters
	scope *stats.Scope // nil: they are not shown
	took  atomic.Pointer[stats.Histogram]
}

// callsOf returns the counters of a method, nil if there are too many methods.
func (c *Config) callsOf(to *cluster.Cluster, service, method string) *calls {
	key := cluster.ExtraStats{Of: "grpc", A: service, B: method}
	switch {
	case c.AllMethods && c.ReplaceDots:
		key.Of = "grpc without dots"
	case c.AllMethods:
	default:
		if _, ok := c.Methods[service][method]; !ok {
			key.A, key.B = "", ""
		}
	}
	calls, _ := to.Extra(key, newCalls).(*calls)
	return calls
}

// newCalls makes the counters of a method.
func newCalls(sc *stats.Scope, key cluster.ExtraStats) any {
	c := &calls{}
	if sc == nil {
		return c
	}
	c.scope = sc.Child("grpc")
	if key.A != "" {
		service := key.A
		if key.Of != "grpc" {
			service = strings.ReplaceAll(service, ".", "_")
		}
		c.scope = c.scope.Tag("envoy_grpc_bridge_service", service).Tag("envoy_grpc_bridge_method", key.B)
	}
	c.scope.Bind(&c.counters)
	return c
}

// time is upstream_rq_time.
func (c *calls) time() *stats.Histogram {
	h := c.took.Load()
	if h == nil {
		h = new(stats.Histogram) // not shown
		if c.scope != nil {
			h = c.scope.Histogram("upstream_rq_time", "Milliseconds from the end of the request to the end of the response.")
		}
		c.took.Store(h)
	}
	return h
}
