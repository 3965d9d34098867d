package why

import (
	"encoding/json"
	"time"

	"github.com/mecha-mesh/mecha/proxy/meta"
)

// MarshalJSON gives an exchange the form that /why has in JSON. Times are in milliseconds.
func (e *Exchange) MarshalJSON() ([]byte, error) {
	type decision struct {
		At      float64 `json:"at_ms"`
		By      string  `json:"by"`
		What    string  `json:"what"`
		Of      string  `json:"of,omitempty"`
		Number  int     `json:"number,omitempty"`
		Index   *int    `json:"index,omitempty"`
		Peer    string  `json:"peer,omitempty"`
		Because string  `json:"because,omitempty"`
	}
	type phase struct {
		Name   string  `json:"name"`
		Took   float64 `json:"took_ms"`
		Filter bool    `json:"filter,omitempty"`
	}
	out := struct {
		ID          string     `json:"request_id,omitempty"`
		Start       time.Time  `json:"start"`
		Took        float64    `json:"took_ms"`
		Method      string     `json:"method"`
		Host        string     `json:"host"`
		Path        string     `json:"path"`
		Protocol    string     `json:"protocol"`
		Client      string     `json:"client,omitempty"`
		Code        int        `json:"code"`
		Flags       string     `json:"response_flags,omitempty"`
		Details     string     `json:"response_code_details,omitempty"`
		Listener    string     `json:"listener"`
		FilterChain string     `json:"filter_chain"`
		Route       string     `json:"route,omitempty"`
		Cluster     string     `json:"cluster,omitempty"`
		Upstream    string     `json:"upstream_host,omitempty"`
		Failure     string     `json:"upstream_transport_failure_reason,omitempty"`
		Attempts    int        `json:"attempts,omitempty"`
		Decisions   []decision `json:"decisions"`
		Lost        int        `json:"decisions_lost,omitempty"`
		Phases      []phase    `json:"phases"`
	}{
		ID: e.ID, Start: e.Start, Took: asMillis(e.End), Method: e.Method, Host: e.Host, Path: e.Path, Protocol: e.Protocol.String(),
		Client: text(e.Client), Code: e.Code, Details: e.Details, Listener: e.Listener, FilterChain: e.FilterChain,
		Route: e.RouteName, Cluster: e.Cluster, Upstream: text(e.UpstreamHost), Failure: e.UpstreamFailure, Attempts: e.Attempts, Lost: e.Lost,
		Decisions: []decision{}, Phases: []phase{},
	}
	if e.Flags != 0 {
		out.Flags = e.Flags.String()
	}
	for _, d := range e.Decisions {
		x := decision{asMillis(d.At), d.By, d.What, d.Of, d.N, nil, d.Peer, d.Because}
		if i := d.Place - 1; i >= 0 {
			x.Index = &i
		}
		out.Decisions = append(out.Decisions, x)
	}
	for _, p := range e.Phases {
		out.Phases = append(out.Phases, phase{p.Name, asMillis(p.Took), p.Filter})
	}
	return json.Marshal(out)
}

func asMillis(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

func text(a meta.Addr) string {
	if a == (meta.Addr{}) {
		return ""
	}
	return a.String()
}
