package admin

import (
	"encoding/json"
	"log/slog"
	"time"

	"github.com/mecha-mesh/mecha/proxy/meta"
	"github.com/mecha-mesh/mecha/proxy/secret"
	"github.com/mecha-mesh/mecha/proxy/why"
)

// State is where the server is in its life (envoy.admin.v3.ServerInfo.State).
type State string

// The states. /ready answers 200 in Live only.
const (
	Live            State = "LIVE"
	Draining        State = "DRAINING" // also after SetHealthy(false)
	PreInitializing State = "PRE_INITIALIZING"
	Initializing    State = "INITIALIZING"
)

// Source is what the admin server shows and steers. The process implements it. Its
// methods are called from many goroutines at once; what they return is the caller's
// to read and is not changed afterwards.
type Source interface {
	State() State
	ServerInfo() ServerInfo
	Clusters() []ClusterView
	Listeners() []ListenerView
	// Runtime returns the layers in order, lowest first, and the values by key.
	Runtime() RuntimeView
	// ConfigDump returns the JSON of an envoy.admin.v3.ConfigDump. An *Error decides
	// on the status code; any other error is 500.
	ConfigDump(DumpOptions) ([]byte, error)

	// Drain starts to drain listeners and returns at once.
	Drain(DrainOptions)
	// SetHealthy makes the server's own health checks pass or fail.
	SetHealthy(bool)
	// ReopenLogs opens every access log file anew.
	ReopenLogs() error
	// Quit starts the shutdown of the process and returns at once.
	Quit()
}

// RuntimeSetter is implemented by a Source whose runtime has an admin layer.
type RuntimeSetter interface {
	// SetRuntime sets keys in the order given; an empty value removes a key.
	SetRuntime(values Params) error
}

// Initializer is implemented by a Source that knows what it waits for.
type Initializer interface {
	Unready() []Unready
}

// Unready is something that does not work yet, and what it waits for.
type Unready struct {
	Name    string
	Targets []string
}

// ResourceLister is implemented by a Source that knows which resources it was configured
// with.
type ResourceLister interface {
	// Resources are sorted by type and name.
	Resources() []ResourceView
}

// CertificateLister is implemented by a Source that knows which TLS contexts are in use.
type CertificateLister interface {
	// Certificates are those of each context, of listeners first.
	Certificates() []secret.InUse
}

// Forecaster is implemented by a Source that knows what would become of a request.
type Forecaster interface {
	// Forecast tells what would be decided about a request that nobody has sent. Its error is
	// what is wrong with the question.
	Forecast(WhatIf) (*why.Exchange, error)
}

// WhatIf is a request that nobody has sent.
type WhatIf struct {
	Method, URL string
	Headers     []string // "name: value"
	Listener    string   // "" takes the one of To, or the only one
	To, From    string   // addresses, "" if they do not matter
}

// ResourceView is a resource as it was given over xDS, from a file or in the bootstrap.
type ResourceView struct {
	Type    string `json:"type"` // short: "Cluster"
	Name    string `json:"name"`
	Version string `json:"version_info,omitempty"`
	// Used tells whether traffic has used it (clusters, endpoints), or something refers to it.
	Used   bool `json:"used"`
	Static bool `json:"static,omitempty"` // from the bootstrap
	// Stale tells that it is from --last-known-good, and the control plane has not spoken of it.
	Stale   bool   `json:"stale,omitempty"`
	Refused string `json:"refused,omitempty"` // why the newest version is not in effect
}

// Error is a failure with an HTTP status code, for the one who asked.
type Error struct {
	Code int
	Text string
}

// Error returns the text.
func (e *Error) Error() string { return e.Text }

// DumpOptions are the parameters of /config_dump.
type DumpOptions struct {
	Resource   string // field of a dump message, such as "dynamic_active_clusters"
	Mask       string // protobuf field mask
	NameRegex  string
	IncludeEDS bool
}

// DrainOptions are the parameters of /drain_listeners.
type DrainOptions struct {
	InboundOnly bool // only listeners with traffic_direction INBOUND
	Graceful    bool // discourage connections for the drain time before closing
	SkipExit    bool // never stop the listeners
}

// ServerInfo is envoy.admin.v3.ServerInfo.
type ServerInfo struct {
	Version           string // "<revision>/<version>/<status>/<build>/<tls library>"
	Start             time.Time
	HotRestartVersion string          // "disabled"
	CommandLine       any             // marshals to the object command_line_options
	Node              json.RawMessage // envoy.config.core.v3.Node, nil for none
}

// ListenerView is a listener as /listeners shows it.
type ListenerView struct {
	Name       string
	Address    meta.Addr
	Additional []meta.Addr
}

// RuntimeView is the state of the runtime layers.
type RuntimeView struct {
	Layers  []string
	Entries map[string]RuntimeEntry
}

// RuntimeEntry is one key of the runtime.
type RuntimeEntry struct {
	Final  string   `json:"final_value"`
	Layers []string `json:"layer_values"` // "" in a layer that does not set it
}

// Thresholds are limits of a circuit breaker.
type Thresholds struct {
	MaxConnections, MaxPendingRequests, MaxRequests, MaxRetries uint32
}

// ClusterView is a cluster as /clusters shows it.
type ClusterView struct {
	Name           string
	Observability  string // alt_stat_name, "" if it is the name
	EDSServiceName string
	AddedViaAPI    bool
	Default, High  Thresholds   // by priority
	Outlier        *OutlierView // nil without outlier detection
	Hosts          []HostView
}

// OutlierView is the state of outlier detection by success rate; -1 is "not
// computed", as in Envoy.
type OutlierView struct {
	Average, Threshold                       float64
	LocalOriginAverage, LocalOriginThreshold float64
}

// HostView is one host of a cluster.
type HostView struct {
	Address  meta.Addr
	Hostname string

	CxActive, CxConnectFail, CxTotal                                  uint64
	RqActive, RqPendingActive, RqError, RqSuccess, RqTimeout, RqTotal uint64
	Health                                                            HealthFlags
	EDSHealth                                                         string // "HEALTHY", "UNHEALTHY", "DEGRADED", "DRAINING", "TIMEOUT"; "" is HEALTHY
	Weight, Priority                                                  uint32
	Region, Zone, SubZone                                             string
	Canary                                                            bool
	SuccessRate, LocalOriginSuccessRate                               float64 // percent; -1 not computed
}

// HealthFlags say why a host is not healthy.
type HealthFlags uint16

// The flags, in the order in which Envoy prints them.
const (
	FailedActiveHC HealthFlags = 1 << iota
	FailedOutlierCheck
	FailedEDSHealth
	DegradedActiveHC
	DegradedEDSHealth
	PendingDynamicRemoval
	PendingActiveHC
	ExcludedViaImmediateHCFail
	ActiveHCTimeout
	EDSStatusDraining
	DegradedOutlierDetection
)

// Level names as Envoy spells them, with the slog level of each.
func levels() []struct {
	name  string
	level slog.Level
} {
	return []struct {
		name  string
		level slog.Level
	}{
		{"trace", slog.LevelDebug - 4}, {"debug", slog.LevelDebug}, {"info", slog.LevelInfo},
		{"warning", slog.LevelWarn}, {"error", slog.LevelError}, {"critical", slog.LevelError + 4},
		{"off", slog.LevelError + 100},
	}
}

// ParseLevel returns the slog level of one of Envoy's names: trace, debug, info,
// warning (or warn), error, critical, off.
func ParseLevel(name string) (slog.Level, bool) {
	if name == "warn" {
		name = "warning"
	}
	for _, l := range levels() {
		if l.name == name {
			return l.level, true
		}
	}
	return 0, false
}

// LevelName returns Envoy's name of a level: the highest that is not above it.
func LevelName(level slog.Level) string {
	name := "trace"
	for _, l := range levels() {
		if level >= l.level {
			name = l.name
		}
	}
	return name
}
