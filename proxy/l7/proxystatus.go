package l7

import (
	"strings"

	"github.com/mecha-mesh/mecha/proxy/header"
	"github.com/mecha-mesh/mecha/proxy/meta"
)

// ProxyStatus is proxy_status_config: responses that are not what upstream said tell in
// Proxy-Status what went wrong (RFC 9209).
type ProxyStatus struct {
	Name          string // of this proxy; "" is the server's name
	NodeID        bool   // the node's ID is the name
	NoDetails     bool   // remove_details
	NoTermination bool   // remove_connection_termination_details
	NoFlags       bool   // remove_response_flags
	Recommended   bool   // the status is the one that the RFC recommends (set_recommended_response_code)
}

// proxyErrors are the errors of RFC 9209 for response flags, and the status that it
// recommends, 0 for none. The first that is set counts: Envoy looks in this order.
var proxyErrors = [...]struct {
	flag meta.Flag
	name string
	code int
}{
	{meta.FailedLocalHealthCheck | meta.NoHealthyUpstream, "destination_unavailable", 503},
	{meta.UpstreamRequestTimeout, "http_response_timeout", 504},
	{meta.DurationTimeout | meta.LocalReset, "connection_timeout", 504},
	{meta.UpstreamRemoteReset, "connection_terminated", 502},
	{meta.UpstreamConnectionFailure | meta.UnauthorizedExternalService, "connection_refused", 502},
	{meta.UpstreamConnectionTermination, "connection_terminated", 502},
	{meta.OverloadManagerTerminated | meta.DropOverload, "connection_limit_reached", 503},
	{meta.FaultInjected, "http_request_error", 0},
	{meta.DownstreamConnectionTermination | meta.DownstreamRemoteReset, "connection_terminated", 502},
	{meta.UpstreamOverflow, "connection_limit_reached", 503},
	{meta.NoRouteFound, "destination_not_found", 500},
	{meta.RateLimited | meta.RateLimitServiceError, "connection_limit_reached", 503},
	{meta.UpstreamRetryLimitExceeded, "destination_unavailable", 503},
	{meta.StreamIdleTimeout, "http_response_timeout", 504},
	{meta.InvalidEnvoyRequestHeaders | meta.DownstreamProtocolError, "http_request_error", 0},
	{meta.UpstreamMaxStreamDurationReached, "http_response_timeout", 504},
	{meta.NoFilterConfigFound, "proxy_configuration_error", 500},
	{meta.UpstreamProtocolError, "http_protocol_error", 502},
	{meta.NoClusterFound, "destination_unavailable", 503},
	{meta.DNSResolutionFailed, "dns_error", 502},
}

// setProxyStatus appends to Proxy-Status what went wrong, if anything did.
func (st *stream) setProxyStatus() {
	c := st.m.spec.ProxyStatus
	if c == nil || st.Meta.Flags == 0 {
		return
	}
	for _, e := range proxyErrors {
		if st.Meta.Flags&e.flag == 0 {
			continue
		}
		m := &st.Response
		status := st.proxyStatus(c, e.name)
		if old := m.Get("proxy-status"); old != "" {
			status = m.Concat(old, ", ", status)
		}
		m.Set("proxy-status", status)
		if c.Recommended && e.code != 0 {
			m.SetInt(header.Status, int64(e.code))
		}
		return
	}
}

// proxyStatus is the member of the list for this proxy.
func (st *stream) proxyStatus(c *ProxyStatus, name string) string {
	proxy := c.Name
	switch {
	case c.NodeID:
		proxy = st.m.node.ID
	case proxy == "":
		proxy = st.m.spec.ServerName
	}
	out := proxy + "; error=" + name
	if c.NoDetails || st.Meta.Details == "" {
		return out
	}
	details := st.Meta.Details
	if t := st.Conn.Termination; t != "" && !c.NoTermination {
		details += "; " + t
	}
	if !c.NoFlags {
		details += "; " + st.Meta.Flags.String()
	}
	return out + `; details="` + quoted.Replace(details) + `"`
}

// quoted makes a string safe inside quotes, with the escapes of Envoy.
var quoted = strings.NewReplacer(
	"\\", `\\`, `"`, `\"`, "'", `\'`, "\n", `\n`, "\r", `\r`, "\t", `\t`, "\v", `\v`, "\x00", `\0`,
)
