package route

import (
	"time"

	"github.com/mecha-mesh/mecha/proxy/cluster"
	"github.com/mecha-mesh/mecha/proxy/filter"
)

// Kind is what a route does.
type Kind uint8

// The kinds.
const (
	Forward Kind = iota
	Redirect
	Direct
)

// Route is one route of a virtual host, compiled: immutable, shared by all streams.
// It implements filter.Route.
type Route struct {
	RouteName   string
	VirtualHost *VirtualHost
	Kind        Kind
	Forward     *ForwardAction
	Redirect    *RedirectAction
	Direct      *DirectAction
	StatPrefix  string

	RequestMutations, ResponseMutations []*Mutations // in the order in which they apply
	overrides                           []override
	disabled                            []slotFlag
}

// ForwardAction sends the request to a cluster (RouteAction).
type ForwardAction struct {
	Cluster       string // one of these three is set
	ClusterHeader string // lower case
	Weighted      *WeightedClusters

	NotFoundCode int // cluster_not_found_response_code: 503 unless set
	Priority     cluster.Priority

	Timeout           time.Duration // of the whole exchange, 15 s unless set; 0 is never
	IdleTimeout       time.Duration // 0: that of the connection manager, unless IdleTimeoutSet
	IdleTimeoutSet    bool
	MaxStreamDuration time.Duration // 0 is never
	Retry             *RetryPolicy  // nil is none

	HostRewrite       string // host_rewrite_literal
	HostRewriteHeader string
	AutoHostRewrite   bool
	AppendXFH         bool // append_x_forwarded_host
	PrefixRewrite     string
	matchedPrefix     int // bytes of the path that PrefixRewrite replaces; -1: all of it

	Upgrades []Upgrade
	// ConnectTerminate answers CONNECT itself and sends the payload as raw TCP (connect_config).
	ConnectTerminate bool
	AttemptCount     bool // include_request_attempt_count
	AttemptCountBack bool // include_attempt_count_in_response
	RetryBufferLimit int  // per_request_buffer_limit_bytes; 0: the listener's
}

// Upgrade is one of upgrade_configs.
type Upgrade struct {
	Type    string // lower case
	Enabled bool
}

// RedirectAction answers with another location (RedirectAction).
type RedirectAction struct {
	Code          int
	Scheme, Host  string
	HTTPS         bool
	Port          uint32
	Path, Prefix  string
	StripQuery    bool
	matchedPrefix int
}

// DirectAction answers by itself (DirectResponseAction).
type DirectAction struct {
	Reply filter.Reply
}

// RetryPolicy says when a request is tried again (RetryPolicy).
type RetryPolicy struct {
	On                 RetryOn
	Retries            uint32 // num_retries, 1 unless set
	PerTry, PerTryIdle time.Duration
	Base, Max          time.Duration // back-off: 25 ms and ten times Base unless set
	Codes              []int         // retriable_status_codes
	PreviousHosts      bool          // retry_host_predicate
	HostAttempts       int           // host_selection_retry_max_attempts, 1 unless set
	RetriableHeaders   []func(get func(name string) (string, bool)) bool
}

// RetryOn is a set of retry conditions.
type RetryOn uint32

// The conditions.
const (
	On5xx RetryOn = 1 << iota
	OnGatewayError
	OnReset
	OnResetBeforeRequest
	OnConnectFailure
	OnEnvoyRatelimited
	OnRetriable4xx
	OnRefusedStream
	OnRetriableStatusCodes
	OnRetriableHeaders
	OnHTTP3PostConnectFailure
	OnCancelled
	OnDeadlineExceeded
	OnInternal
	OnResourceExhausted
	OnUnavailable
)
