package l4

import (
	"strings"

	"github.com/mecha-mesh/mecha/proxy/meta"
	"github.com/mecha-mesh/mecha/proxy/stats"
)

// listenerStats is listener.<address>.*.
type listenerStats struct {
	Total          stats.Counter   `stat:"downstream_cx_total" help:"connections that a filter chain has taken"`
	Destroy        stats.Counter   `stat:"downstream_cx_destroy" help:"connections that have ended"`
	Active         stats.Gauge     `stat:"downstream_cx_active" help:"connections that a filter chain has"`
	Length         stats.Histogram `stat:"downstream_cx_length_ms" help:"how long connections lived, in milliseconds"`
	Overflow       stats.Counter   `stat:"downstream_cx_overflow" help:"connections refused by the limit of the listener"`
	GlobalOverflow stats.Counter   `stat:"downstream_global_cx_overflow" help:"connections refused by the limit of the process"`
	SocketTimeout  stats.Counter   `stat:"downstream_cx_transport_socket_connect_timeout" help:"connections closed because their handshake took too long"`
	PreActive      stats.Gauge     `stat:"downstream_pre_cx_active" help:"connections that listener filters look at"`
	PreTimeout     stats.Counter   `stat:"downstream_pre_cx_timeout" help:"connections whose listener filters took too long"`
	FilterError    stats.Counter   `stat:"downstream_listener_filter_error" help:"connections from which listener filters could not read"`
	FilterClose    stats.Counter   `stat:"downstream_listener_filter_remote_close" help:"connections whose client left while listener filters waited"`
	OverloadReject stats.Counter   `stat:"downstream_cx_overload_reject" help:"connections refused by the overload manager"`
	NoChain        stats.Counter   `stat:"no_filter_chain_match" help:"connections closed because no filter chain matches them"`
	NoInspector    stats.Counter   `stat:"extension_config_missing" help:"connections closed because the configuration of a listener filter has not come"`
	NoFilter       stats.Counter   `stat:"network_extension_config_missing" help:"connections closed because the configuration of a network filter has not come"`
	Panics         stats.Counter   `stat:"mecha_connection_panics" help:"connections closed because a filter panicked"`
	AcceptErrors   stats.Counter   `stat:"mecha_accept_errors" help:"connections that could not be accepted, such as for lack of descriptors"`
}

// managerStats is listener_manager.*.
type managerStats struct {
	Added         stats.Counter `stat:"listener_added" help:"listeners added"`
	Modified      stats.Counter `stat:"listener_modified" help:"listeners replaced by a new version"`
	Removed       stats.Counter `stat:"listener_removed" help:"listeners removed"`
	Stopped       stats.Counter `stat:"listener_stopped" help:"listeners stopped"`
	InPlace       stats.Counter `stat:"listener_in_place_updated" help:"listeners changed without touching their sockets"`
	CreateSuccess stats.Counter `stat:"listener_create_success" help:"listeners that were bound"`
	CreateFailure stats.Counter `stat:"listener_create_failure" help:"listeners that could not be bound or built"`
	Active        stats.Gauge   `stat:"total_listeners_active" help:"listeners in use"`
	Warming       stats.Gauge   `stat:"total_listeners_warming" help:"listeners that wait for other resources"`
	Draining      stats.Gauge   `stat:"total_listeners_draining" help:"removed listeners that still have connections"`
	ChainDraining stats.Gauge   `stat:"total_filter_chains_draining" help:"removed filter chains that still have connections"`
	Pinned        stats.Gauge   `stat:"workers_pinned" help:"workers that are bound to a processor: none, there are no workers"`
	Started       stats.Gauge   `stat:"workers_started" help:"1 once listeners accept connections"`
}

// statName returns the form of an address in statistics: "0.0.0.0_15006",
// "[__]_15006", "/run/x.sock".
func statName(a meta.Addr) string { return strings.ReplaceAll(a.String(), ":", "_") }
