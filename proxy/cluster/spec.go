// Package cluster is the upstream side: clusters, their hosts and how they are
// discovered, load balancing, circuit breakers and connection pools.
//
// What is sent to a host is not here: see filters/router and filters/tcpproxy.
package cluster

import (
	"math"
	"net/netip"
	"time"

	"github.com/mecha-mesh/mecha/proxy/cluster/dns"
	"github.com/mecha-mesh/mecha/proxy/cluster/health"
	"github.com/mecha-mesh/mecha/proxy/cluster/outlier"
	"github.com/mecha-mesh/mecha/proxy/codec/h2"
	"github.com/mecha-mesh/mecha/proxy/meta"
	"github.com/mecha-mesh/mecha/proxy/netio"
	"github.com/mecha-mesh/mecha/proxy/transport"
)

// Spec is a cluster's configuration: plain, validated, immutable (envoy.config.cluster.v3.Cluster).
type Spec struct {
	Name        string
	Metadata    map[string]map[string]any // filter_metadata, for internal listeners
	StatName    string                    // alt_stat_name, or Name
	Type        Discovery
	ServiceName string // eds_cluster_config.service_name, or Name
	EDS         string // the file that endpoints come from (eds_config.path_config_source); "" is ADS
	EDSWatched  string // watched_directory of that file, "" is its own
	EDSAPI      string // eds_config.api_config_source, serialised; "" is ADS or a file
	// InitialFetchTimeout is how long the cluster waits for its first assignment
	// (eds_config.initial_fetch_timeout): 0 is Envoy's default of 15 s, negative is for
	// ever (0 in the configuration).
	InitialFetchTimeout time.Duration
	// Awaits are numbers of what has to come, beside hosts, before this version is used:
	// secrets of its transport sockets. Manager.Arrived ends the wait for one.
	Awaits []uint64
	// Thaw, if not nil, makes an equal Spec again. The manager then keeps no Spec of a
	// cluster that nobody uses.
	Thaw func() (*Spec, error)
	// OnDemand is a cluster that is there because a request asked for it: when nobody uses
	// it any more, Options.Idle is told.
	OnDemand   bool
	Assignment *Assignment

	ConnectTimeout time.Duration // 5 s unless set
	Policy         Policy
	PanicThreshold float64 // common_lb_config.healthy_panic_threshold in percent, 50 unless set
	// OverrideStatus is the health that a host wanted by a stateful session may have
	// (common_lb_config.override_host_status).
	OverrideStatus HealthSet
	CloseOnChange  bool // common_lb_config.close_connections_on_host_set_change
	// MergeWindow is how long changes of health, weight and metadata by discovery wait for
	// others (common_lb_config.update_merge_window); 0 is not at all.
	MergeWindow time.Duration

	DNS         DNS
	OriginalDst OriginalDst
	Forward     *Forward      // of DynamicForward
	Sub         *SubClusters  // of DynamicForward, in place of Forward; nil is none
	Warmed      func()        // called, with locks held, when this version is first usable; nil is nobody
	Clusters    []string      // of Aggregate, in the order in which they are used
	Breakers    [2]Thresholds // by Priority
	Bind        *Bind         // upstream_bind_config, nil is none
	KeepAlive   *TCPKeepAlive // upstream_connection_options.tcp_keepalive
	Eyeballs    Eyeballs      // upstream_connection_options.happy_eyeballs_config
	BufferLimit int           // per_connection_buffer_limit_bytes, 1 MiB unless set
	Socket      transport.Socket
	Sockets     []SocketMatch // transport_socket_matches; the first that a host matches wins over Socket
	// PerDownstream keeps connections apart by the downstream connection that they are
	// made for (connection_pool_per_downstream_connection).
	PerDownstream bool
	Track         Track // track_cluster_stats
	// Filters are those between whoever sends requests and the hosts
	// (HttpProtocolOptions.http_filters), for package filter to know; nil is no list,
	// which is not the same as an empty one.
	Filters any
	// Redis is what hosts are told before the first command (RedisProtocolOptions); nil is
	// nothing.
	Redis *RedisOptions

	// Preconnect is how many connections there are for each request that has one or waits
	// for one (preconnect_policy.per_upstream_preconnect_ratio); 0 and 1 are none ahead.
	Preconnect float64
	// Predict is how many connections there are for each request of the cluster, to the hosts
	// that the next ones will go to (predictive_preconnect_ratio); 0 and 1 are none ahead.
	Predict      float64
	HTTP         HTTPOptions
	CleanupEvery time.Duration // cleanup_interval of ORIGINAL_DST hosts, 5 s unless set

	Checks                *health.Config  // health_checks, nil is none
	IgnoreUnchecked       bool            // common_lb_config.ignore_new_hosts_until_first_hc
	Outlier               *outlier.Config // outlier_detection, nil is none
	IgnoreHealthOnRemoval bool            // ignore_health_on_host_removal: hosts leave with discovery, whatever their health
	CloseOnHostFailure    bool            // close_connections_on_host_health_failure; otherwise they drain
	Hash                  uint64          // of the serialised resource: equal means unchanged
	// LogMetadata reads the cluster's metadata for access logs; nil if it has none.
	LogMetadata func() meta.Fields
}

// Discovery is how a cluster gets its hosts (Cluster.type).
type Discovery uint8

// The discovery types.
const (
	Static Discovery = iota
	StrictDNS
	LogicalDNS
	EDS
	OriginalDestination
	DynamicForward
	Aggregate
)

// Assignment is the hosts of a cluster (ClusterLoadAssignment).
type Assignment struct {
	Cluster    string
	Localities []Locality
	// Overprovisioning is policy.overprovisioning_factor in percent, 140 unless set.
	Overprovisioning int
	WeightedHealth   bool          // policy.weighted_priority_health
	DropOverload     float64       // policy.drop_overloads: the part of requests, up to 1, that are refused
	StaleAfter       time.Duration // policy.endpoint_stale_after, 0 is never
	Hash             uint64
	// Thaw, if not nil, makes an equal Assignment again. While no cluster that uses it is
	// used, the manager keeps nothing else of it.
	Thaw func() (*Assignment, error)

	frozen bool // Localities and what else is for balancing have been let go
}

// Locality is hosts that are near each other.
type Locality struct {
	Region, Zone, SubZone string
	Weight                uint32 // load_balancing_weight, 0 if unset
	Priority              uint32
	Metadata              map[string]map[string]any // filter_metadata
	Hosts                 []HostSpec
}

// HostSpec is one endpoint.
type HostSpec struct {
	Addr     meta.Addr // numeric address or unix socket
	DNSName  string    // socket_address.address where it is a name (STRICT_DNS), with Addr.Port
	Port     uint16    // with DNSName
	Hostname string    // endpoint.hostname, for auto_host_rewrite
	Weight   uint32    // load_balancing_weight, 1 unless set
	Health   Health
	Metadata map[string]map[string]any // filter_metadata; numbers are float64, as in JSON
	Extra    []meta.Addr               // additional_addresses (happy eyeballs)
	TLVs     []transport.TLV           // for PROXY protocol, of its own (typed metadata)
	Check    *HostCheck                // nil: as the cluster says
}

// HostCheck says how one endpoint is checked (endpoint.health_check_config).
type HostCheck struct {
	Disabled bool      // disable_active_health_check
	Addr     meta.Addr // address; the zero value is the endpoint's
	Port     uint16    // port_value, 0 is none
	Hostname string
}

func (c *HostCheck) equal(o *HostCheck) bool { return c == o || c != nil && o != nil && *c == *o }

// Health is what discovery says of a host (HealthStatus).
type Health uint8

// The health states.
const (
	Healthy Health = iota
	Degraded
	Unhealthy
	DrainingHost
	TimedOutHost
)

// HealthSet is a set of Health.
type HealthSet uint8

// Has reports whether h is in the set.
func (s HealthSet) Has(h Health) bool { return s&(1<<h) != 0 }

// With returns the set with h.
func (s HealthSet) With(h Health) HealthSet { return s | 1<<h }

// DNS configures STRICT_DNS and LOGICAL_DNS.
type DNS struct {
	Refresh    time.Duration // dns_refresh_rate, 5 s unless set
	Family     Family
	RespectTTL bool
	Jitter     time.Duration // dns_jitter: up to so much is added to each wait
	// FailureBase and FailureMax bound the wait after a failed lookup
	// (dns_failure_refresh_rate); 0 grows from 1 s to Refresh.
	FailureBase, FailureMax time.Duration
	// Least is the shortest pause that a TTL makes (dns_min_refresh_rate).
	Least time.Duration
	// NoWait lets the cluster be used before its names have been looked up
	// (wait_for_warm_on_init: false).
	NoWait bool
	// Resolver is how names are looked up (typed_dns_resolver_config); nil is as the
	// process does.
	Resolver *dns.Options
}

// Family is dns_lookup_family.
type Family uint8

// The lookup families.
const (
	Auto Family = iota // IPv6 if there is any, otherwise IPv4
	V4Only
	V6Only
	V4Preferred
	AllFamilies
)

// OriginalDst configures ORIGINAL_DST (original_dst_lb_config).
type OriginalDst struct {
	UseHTTPHeader bool
	HTTPHeader    string // "x-envoy-original-dst-host" unless set
	PortOverride  uint16 // upstream_port_override, 0 is none
	// MetadataKey and MetadataPath say where in dynamic metadata the destination is
	// (metadata_key); "" is nowhere.
	MetadataKey  string
	MetadataPath []string
}

// Priority of a request.
type Priority uint8

// The priorities.
const (
	Default Priority = iota
	High
)

// Thresholds limit what is in flight to a cluster (CircuitBreakers.Thresholds).
type Thresholds struct {
	MaxConnections, MaxPending, MaxRequests uint32 // 1024 unless set
	MaxRetries                              uint32 // if it is set; otherwise RetryBudget counts
	TrackRemaining                          bool
	MaxPools                                uint32 // max_connection_pools, 0 is no limit
	MaxPerHost                              uint32 // per_host_thresholds.max_connections, 0 is no limit
	RetryBudget                             *RetryBudget
}

// RetryBudget limits retries by what is in flight (retry_budget).
type RetryBudget struct {
	Percent        float64 // 20 unless set
	MinConcurrency uint32  // 3 unless set
	// Interval is budget_interval: requests that began so lately count as if they were in
	// flight. 0 is none.
	Interval time.Duration
	// Rate, if not 0, is an interval in which there may also be only Percent as many
	// retries as requests, and PerSecond beside. It is for clusters that do not say how
	// they limit retries; see UnsaidBudget.
	Rate      time.Duration
	PerSecond float64
}

// UnsaidBudget is the budget of clusters that set neither max_retries nor retry_budget:
// that of a retry_budget without fields, and not more than a fifth as many retries as
// requests over ten seconds, ten a second beside.
func UnsaidBudget() *RetryBudget {
	return &RetryBudget{Percent: 20, MinConcurrency: 3, Rate: 10 * time.Second, PerSecond: 10}
}

// Bind is where upstream connections come from (upstream_bind_config).
type Bind struct {
	V4, V6   netip.AddrPort // source by the family of the host; port 0 is any
	Freebind bool
	// Options are set on sockets before they are bound (socket_options, for each family
	// those of its source address, if it has its own).
	Options, V6Options []netio.SocketOption
}

// TCPKeepAlive configures SO_KEEPALIVE; zero values are the kernel's.
type TCPKeepAlive struct {
	Probes         uint32
	Time, Interval time.Duration
}

// SocketMatch is a transport socket for hosts with certain labels
// (transport_socket_matches).
type SocketMatch struct {
	Name   string
	Match  map[string]any // what the metadata under envoy.transport_socket_match must have; empty is every host
	Socket transport.Socket
}

// Eyeballs say in which order the addresses of a host are tried (HappyEyeballsConfig,
// RFC 8305). The zero value begins with the family of the first address.
type Eyeballs struct {
	First Family // V4Only or V6Only; anything else is the family of the first address
	Count int    // addresses of that family before the other one has its turn, 1 unless set
}

// HTTPOptions are the cluster's HttpProtocolOptions.
type HTTPOptions struct {
	IdleTimeout     time.Duration // 1 h unless set; 0 after parsing is never
	MaxRequests     uint32        // max_requests_per_connection, 0 is no limit
	MaxConnDuration time.Duration // 0 is no limit
	// MaxStreamDuration is how long one attempt may take, for whoever sends requests; 0 is
	// no limit.
	MaxStreamDuration time.Duration
	MaxHeadersCount   uint32 // 100 unless set
	MaxHeadersKB      uint32 // 60 unless set
	EnableTrailers    bool
	ProperCase        bool // header_key_format.proper_case_words
	PreserveCase      bool // names of responses are sent on as they were written
	ReasonPhrase      bool // with PreserveCase: the reason phrase, too
	ProperOwn         bool // with PreserveCase: other names as with ProperCase

	Auto     AutoNames
	Protocol ProtocolChoice
	HTTP2    *h2.Options // without what other fields say; nil: the default
}

// AutoNames are names that requests bring for the TLS connections which they need
// (UpstreamHttpProtocolOptions); whoever sends requests obeys.
type AutoNames struct {
	SNI    bool   // auto_sni: the server name is that of the request
	SAN    bool   // auto_san_validation: the host's certificate must be for it
	Header string // override_auto_sni_header: the field that the name is in, in lower case; "" is the authority
}

// ProtocolChoice is which version of HTTP connections carry.
type ProtocolChoice uint8

// The choices.
const (
	HTTP1Only    ProtocolChoice = iota // explicit_http_config.http_protocol_options, the default
	HTTP2Only                          // explicit_http_config.http2_protocol_options
	Negotiated                         // auto_config: what ALPN has agreed on, HTTP/1 without
	AsDownstream                       // use_downstream_protocol_config
)

// panicThreshold is a whole number of percent, as Envoy has it.
func (s *Spec) panicThreshold() uint64 { return uint64(math.Round(min(100, max(0, s.PanicThreshold)))) }

// RedisOptions are the credentials for the hosts of a cluster (RedisProtocolOptions). No User
// is the default user.
type RedisOptions struct{ User, Password string }
