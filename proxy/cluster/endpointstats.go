package cluster

import (
	"strings"

	"github.com/mecha-mesh/mecha/proxy/stats"
)

// endpointStats emits the counters of the hosts of clusters that want them
// (track_cluster_stats.per_endpoint_stats), under "cluster.NAME.endpoint.ADDRESS.". They
// are those of admin's /clusters.
func (m *Manager) endpointStats(emit func(stats.Metric)) {
	m.ready.Range(func(_, v any) bool {
		c := v.(*Cluster)
		if c.Used() && c.Spec().Track.Endpoints {
			for _, h := range c.Hosts() {
				h.emit(statSegment(c.Spec()), emit)
			}
		}
		return true
	})
}

// emit emits a host's counters.
func (h *Host) emit(cluster string, emit func(stats.Metric)) {
	addr := h.Addr.String()
	var labels []stats.Label // the last one is written first
	if h.Hostname != "" {
		labels = append(labels, stats.Label{Name: "envoy_endpoint_hostname", Value: h.Hostname})
	}
	labels = append(labels, stats.Label{Name: "envoy_endpoint_address", Value: addr}, stats.Label{Name: "envoy_cluster_name", Value: cluster})
	prefix := "cluster." + cluster + ".endpoint." + strings.ReplaceAll(addr, ":", "_") + "."
	one := func(name, help string, c *stats.Counter, g *stats.Gauge) {
		emit(stats.Metric{Name: prefix + name, Family: "cluster.endpoint." + name, Labels: labels, Help: help, Counter: c, Gauge: g})
	}
	st := &h.ep.stats
	one("cx_connect_fail", "Connections to the host that could not be made.", &st.CxConnectFail, nil)
	one("cx_total", "Connections to the host begun.", &st.CxTotal, nil)
	one("rq_error", "Responses of the host with a status of 500 or more, and failures.", &st.RqError, nil)
	one("rq_success", "Responses of the host with a status under 500.", &st.RqSuccess, nil)
	one("rq_timeout", "Requests that the host did not answer in time.", &st.RqTimeout, nil)
	one("rq_total", "Requests that got a connection to the host.", &st.RqTotal, nil)
	one("cx_active", "Connections to the host that are open or being made.", nil, &st.CxActive)
	one("rq_active", "Requests that have a connection to the host.", nil, &st.RqActive)
	one("rq_pending_active", "Requests that wait for a connection to the host.", nil, &st.RqPendingActive)
	healthy := new(stats.Gauge)
	if f := h.Flags(); !f.unhealthy() && !f.degraded() {
		healthy.Set(1)
	}
	one("healthy", "1 if the host is healthy.", nil, healthy)
}
