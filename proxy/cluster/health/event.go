package health

import (
	"encoding/json"
	"time"

	"github.com/mecha-mesh/mecha/proxy/meta"
)

// What is what has happened to a host.
type What uint8

// What there is to be told.
const (
	Eject What = iota
	AddHealthy
	Failure
	NowDegraded
	NoLongerDegraded
	Succeeded
)

// Event is an entry of the event log (envoy.data.core.v3.HealthCheckEvent).
type Event struct {
	What    What
	Kind    string // of the check
	Cluster string // set by who writes it
	Addr    meta.Addr
	Time    time.Time
	First   bool
	Failure outcome
	Code    int       // of an answer over HTTP, 0 if there was none
	Place   [3]string // region, zone and sub-zone of the host
}

type eventJSON struct {
	Kind      string       `json:"health_checker_type"`
	Host      addressJSON  `json:"host"`
	Cluster   string       `json:"cluster_name"`
	Eject     *failureJSON `json:"eject_unhealthy_event,omitempty"`
	Add       *firstJSON   `json:"add_healthy_event,omitempty"`
	Timestamp string       `json:"timestamp"`
	Failure   *failureJSON `json:"health_check_failure_event,omitempty"`
	Degraded  *struct{}    `json:"degraded_healthy_host,omitempty"`
	NoLonger  *struct{}    `json:"no_longer_degraded_host,omitempty"`
	Success   *struct{}    `json:"successful_health_check_event,omitempty"`
	Locality  localityJSON `json:"locality"`
}

type localityJSON struct {
	Region  string `json:"region"`
	Zone    string `json:"zone"`
	SubZone string `json:"sub_zone"`
}

type addressJSON struct {
	Socket *socketJSON `json:"socket_address,omitempty"`
	Pipe   *pipeJSON   `json:"pipe,omitempty"`
}

type socketJSON struct {
	Protocol string `json:"protocol"`
	Address  string `json:"address"`
	Port     uint16 `json:"port_value"`
	Resolver string `json:"resolver_name"`
	IPv4     bool   `json:"ipv4_compat"`
	Network  string `json:"network_namespace_filepath"`
}

type pipeJSON struct {
	Path string `json:"path"`
	Mode uint32 `json:"mode"`
}

type failureJSON struct {
	Type  string `json:"failure_type"`
	First *bool  `json:"first_check,omitempty"`
	Code  *int   `json:"http_status_code,omitempty"`
}

type firstJSON struct {
	First bool `json:"first_check"`
}

// Line returns the event as a line of JSON.
func (e *Event) Line() []byte {
	j := eventJSON{Kind: e.Kind, Cluster: e.Cluster, Timestamp: e.Time.UTC().Format("2006-01-02T15:04:05.000Z")}
	j.Locality = localityJSON{e.Place[0], e.Place[1], e.Place[2]}
	if e.Addr.Path != "" {
		j.Host.Pipe = &pipeJSON{Path: e.Addr.Path}
	} else {
		j.Host.Socket = &socketJSON{Protocol: "TCP", Address: e.Addr.Addr().String(), Port: e.Addr.Port()}
	}
	failure := [...]string{failed: "ACTIVE", lost: "NETWORK", late: "NETWORK_TIMEOUT", reported: "PASSIVE"}[e.Failure]
	switch e.What {
	case Eject:
		j.Eject = &failureJSON{Type: failure, Code: &e.Code}
	case AddHealthy:
		j.Add = &firstJSON{e.First}
	case Failure:
		j.Failure = &failureJSON{Type: failure, First: &e.First, Code: &e.Code}
	case NowDegraded:
		j.Degraded = &struct{}{}
	case NoLongerDegraded:
		j.NoLonger = &struct{}{}
	case Succeeded:
		j.Success = &struct{}{}
	}
	line, err := json.Marshal(&j)
	if err != nil {
		return nil // plain strings and numbers: it cannot fail
	}
	return append(line, '\n')
}
