// Package health asks hosts whether they are well (envoy.config.core.v3.HealthCheck): over
// HTTP, over gRPC (grpc.health.v1), or by a connection and bytes on it.
//
// It knows one session for each host and says what it has found; what that means for load
// balancing, and how hosts are connected to, is package cluster's.
package health

import (
	"time"

	"github.com/mecha-mesh/mecha/proxy/match"
)

// Config is how the hosts of a cluster are checked. It is immutable.
type Config struct {
	Timeout, Interval       time.Duration
	InitialJitter           time.Duration
	IntervalJitter          time.Duration
	IntervalJitterPercent   uint32
	Unhealthy, Healthy      uint32        // thresholds
	NoTraffic               time.Duration // no_traffic_interval, 60 s unless set
	NoTrafficHealthy        time.Duration // no_traffic_healthy_interval, NoTraffic unless set
	UnhealthyInterval       time.Duration // Interval unless set
	UnhealthyEdge           time.Duration // unhealthy_edge_interval, UnhealthyInterval unless set
	HealthyEdge             time.Duration // healthy_edge_interval, Interval unless set
	NoReuse                 bool          // reuse_connection is false
	LogFailures, LogSuccess bool          // always_log_health_check_failures, ..._success
	LogPaths                []string      // files of the event log
	ALPN                    []string      // tls_options.alpn_protocols
	SocketMatch             map[string]any
	Port                    uint16 // alt_port, 0 is that of the host

	// One of these is set.
	HTTP *HTTP
	TCP  *TCP
	GRPC *GRPC
}

// Range is Int64Range: From, and up to To, which is not in it.
type Range struct{ From, To int64 }

// Field is a header field that a check sends.
type Field struct {
	Name, Value string
	Overwrite   bool
}

// HTTP is http_health_check.
type HTTP struct {
	Host, Path, Method  string // Method is GET unless set
	HTTP2               bool
	Add                 []Field
	Remove              []string
	Expected, Retriable []Range // Expected is 200 unless set
	Send                []byte
	Receive             [][]byte
	BufferSize          int           // response_buffer_size, 1024 unless set; 0 is all
	Service             *match.String // service_name_matcher
}

// TCP is tcp_health_check.
type TCP struct {
	Send    []byte
	Receive [][]byte
}

// GRPC is grpc_health_check.
type GRPC struct {
	Service, Authority string
	Metadata           []Field
}

func in(ranges []Range, n int) bool {
	for _, r := range ranges {
		if int64(n) >= r.From && int64(n) < r.To {
			return true
		}
	}
	return false
}

// kind is the HealthCheckerType of the event log.
func (c *Config) kind() string {
	switch {
	case c.HTTP != nil:
		return "HTTP"
	case c.GRPC != nil:
		return "GRPC"
	}
	return "TCP"
}
