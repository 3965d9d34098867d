package admin

import (
	"bytes"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strconv"
)

func (s *Server) serveClusters(w http.ResponseWriter, r *http.Request) {
	ps := ParseParams(r.URL.RawQuery)
	views := s.cfg.Source.Clusters()
	if f := ps.Get("filter"); f != "" {
		re, err := regexp.Compile(f)
		if err != nil {
			fail(w, http.StatusBadRequest, "Invalid re2 regex: "+err.Error())
			return
		}
		views = slices.DeleteFunc(slices.Clone(views), func(c ClusterView) bool { return !re.MatchString(c.Name) })
	}
	if ps.Get("format") == "json" {
		out := clustersJSON{Clusters: make([]clusterJSON, 0, len(views))}
		for i := range views {
			out.Clusters = append(out.Clusters, toJSON(&views[i]))
		}
		writeJSON(w, out)
		return
	}
	var out bytes.Buffer
	for i := range views {
		views[i].writeText(&out)
		if out.Len() > 64<<10 {
			if _, err := out.WriteTo(w); err != nil {
				return // the one who asked has gone
			}
		}
	}
	_, _ = out.WriteTo(w) // likewise
}

// observability returns the name under which the cluster's statistics are.
func (c *ClusterView) observability() string {
	if c.Observability == "" {
		return c.Name
	}
	return c.Observability
}

func (c *ClusterView) writeText(out *bytes.Buffer) {
	line := func(key string, value any) { fmt.Fprintf(out, "%s::%s::%v\n", c.Name, key, value) }
	line("observability_name", c.observability())
	if o := c.Outlier; o != nil {
		line("outlier::success_rate_average", o.Average)
		line("outlier::success_rate_ejection_threshold", o.Threshold)
		line("outlier::local_origin_success_rate_average", o.LocalOriginAverage)
		line("outlier::local_origin_success_rate_ejection_threshold", o.LocalOriginThreshold)
	}
	for _, t := range [...]struct {
		priority string
		Thresholds
	}{{"default_priority", c.Default}, {"high_priority", c.High}} {
		line(t.priority+"::max_connections", t.MaxConnections)
		line(t.priority+"::max_pending_requests", t.MaxPendingRequests)
		line(t.priority+"::max_requests", t.MaxRequests)
		line(t.priority+"::max_retries", t.MaxRetries)
	}
	line("added_via_api", c.AddedViaAPI)
	if c.EDSServiceName != "" {
		line("eds_service_name", c.EDSServiceName)
	}
	for i := range c.Hosts {
		c.Hosts[i].writeText(out, c.Name)
	}
}

func (h *HostView) writeText(out *bytes.Buffer, cluster string) {
	prefix := cluster + "::" + h.Address.String() + "::"
	line := func(key string, value any) { fmt.Fprintf(out, "%s%s::%v\n", prefix, key, value) }
	line("cx_active", h.CxActive)
	line("cx_connect_fail", h.CxConnectFail)
	line("cx_total", h.CxTotal)
	line("rq_active", h.RqActive)
	line("rq_error", h.RqError)
	line("rq_pending_active", h.RqPendingActive)
	line("rq_success", h.RqSuccess)
	line("rq_timeout", h.RqTimeout)
	line("rq_total", h.RqTotal)
	line("hostname", h.Hostname)
	line("health_flags", h.Health)
	line("weight", h.Weight)
	line("region", h.Region)
	line("zone", h.Zone)
	line("sub_zone", h.SubZone)
	line("canary", h.Canary)
	line("priority", h.Priority)
	line("success_rate", rate(h.SuccessRate))
	line("local_origin_success_rate", rate(h.LocalOriginSuccessRate))
}

func rate(f float64) string { return strconv.FormatFloat(f, 'g', -1, 64) }

var healthNames = [...]string{
	"/failed_active_hc", "/failed_outlier_check", "/failed_eds_health", "/degraded_active_hc", "/degraded_eds_health",
	"/pending_dynamic_removal", "/pending_active_hc", "/excluded_via_immediate_hc_fail", "/active_hc_timeout",
	"/eds_status_draining", "/degraded_outlier_detection",
}

// String returns the flags as Envoy's /clusters does, "healthy" for none.
func (f HealthFlags) String() string {
	out := ""
	for i, name := range healthNames {
		if f&(1<<i) != 0 {
			out += name
		}
	}
	if out == "" {
		return "healthy"
	}
	return out
}

// What follows is envoy.admin.v3.Clusters.
type clustersJSON struct {
	Clusters []clusterJSON `json:"cluster_statuses,omitempty"`
}

type clusterJSON struct {
	Name                 string       `json:"name"`
	AddedViaAPI          bool         `json:"added_via_api,omitempty"`
	Threshold            *percentJSON `json:"success_rate_ejection_threshold,omitempty"`
	LocalOriginThreshold *percentJSON `json:"local_origin_success_rate_ejection_threshold,omitempty"`
	Hosts                []hostJSON   `json:"host_statuses,omitempty"`
	Breakers             breakersJSON `json:"circuit_breakers"`
	Observability        string       `json:"observability_name"`
	EDSServiceName       string       `json:"eds_service_name,omitempty"`
}

type percentJSON struct {
	Value float64 `json:"value"`
}

type breakersJSON struct {
	Thresholds [2]thresholdsJSON `json:"thresholds"`
}

type thresholdsJSON struct {
	Priority    string `json:"priority,omitempty"`
	Connections uint32 `json:"max_connections"`
	Pending     uint32 `json:"max_pending_requests"`
	Requests    uint32 `json:"max_requests"`
	Retries     uint32 `json:"max_retries"`
}

type hostJSON struct {
	Address         addressJSON  `json:"address"`
	Stats           []statJSON   `json:"stats"`
	Health          healthJSON   `json:"health_status"`
	SuccessRate     *percentJSON `json:"success_rate,omitempty"`
	Weight          uint32       `json:"weight,omitempty"`
	Hostname        string       `json:"hostname,omitempty"`
	Priority        uint32       `json:"priority,omitempty"`
	LocalOriginRate *percentJSON `json:"local_origin_success_rate,omitempty"`
	Locality        localityJSON `json:"locality"`
}

type statJSON struct {
	Name  string  `json:"name"`
	Value decimal `json:"value,omitempty"`
	Type  string  `json:"type,omitempty"`
}

type healthJSON struct {
	FailedActive   bool   `json:"failed_active_health_check,omitempty"`
	FailedOutlier  bool   `json:"failed_outlier_check,omitempty"`
	DegradedActive bool   `json:"failed_active_degraded_check,omitempty"`
	Removal        bool   `json:"pending_dynamic_removal,omitempty"`
	PendingActive  bool   `json:"pending_active_hc,omitempty"`
	Excluded       bool   `json:"excluded_via_immediate_hc_fail,omitempty"`
	Timeout        bool   `json:"active_hc_timeout,omitempty"`
	OutlierDegrade bool   `json:"failed_degraded_outlier_detection,omitempty"`
	EDS            string `json:"eds_health_status"`
}

type localityJSON struct {
	Region  string `json:"region,omitempty"`
	Zone    string `json:"zone,omitempty"`
	SubZone string `json:"sub_zone,omitempty"`
}

func toJSON(c *ClusterView) clusterJSON {
	thresholds := func(priority string, t Thresholds) thresholdsJSON {
		return thresholdsJSON{priority, t.MaxConnections, t.MaxPendingRequests, t.MaxRequests, t.MaxRetries}
	}
	out := clusterJSON{
		Name: c.Name, AddedViaAPI: c.AddedViaAPI, Observability: c.observability(), EDSServiceName: c.EDSServiceName,
		Breakers: breakersJSON{[2]thresholdsJSON{thresholds("", c.Default), thresholds("HIGH", c.High)}},
	}
	if o := c.Outlier; o != nil {
		out.Threshold, out.LocalOriginThreshold = percent(o.Threshold), percent(o.LocalOriginThreshold)
	}
	for i := range c.Hosts {
		out.Hosts = append(out.Hosts, c.Hosts[i].toJSON())
	}
	return out
}

// percent returns nil for -1, which is "not computed".
func percent(f float64) *percentJSON {
	if f < 0 {
		return nil
	}
	return &percentJSON{f}
}

func (h *HostView) toJSON() hostJSON {
	has := func(f HealthFlags) bool { return h.Health&f != 0 }
	eds := h.EDSHealth
	if eds == "" {
		eds = "HEALTHY"
	}
	return hostJSON{
		Address: toAddress(h.Address),
		Stats: []statJSON{
			{"cx_connect_fail", decimal(h.CxConnectFail), ""}, {"cx_total", decimal(h.CxTotal), ""},
			{"rq_error", decimal(h.RqError), ""}, {"rq_success", decimal(h.RqSuccess), ""},
			{"rq_timeout", decimal(h.RqTimeout), ""}, {"rq_total", decimal(h.RqTotal), ""},
			{"cx_active", decimal(h.CxActive), "GAUGE"}, {"rq_active", decimal(h.RqActive), "GAUGE"},
			{"rq_pending_active", decimal(h.RqPendingActive), "GAUGE"},
		},
		Health: healthJSON{
			has(FailedActiveHC), has(FailedOutlierCheck), has(DegradedActiveHC), has(PendingDynamicRemoval),
			has(PendingActiveHC), has(ExcludedViaImmediateHCFail), has(ActiveHCTimeout), has(DegradedOutlierDetection), eds,
		},
		SuccessRate: percent(h.SuccessRate), LocalOriginRate: percent(h.LocalOriginSuccessRate),
		Weight: h.Weight, Hostname: h.Hostname, Priority: h.Priority,
		Locality: localityJSON{h.Region, h.Zone, h.SubZone},
	}
}
