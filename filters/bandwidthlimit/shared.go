package bandwidthlimit

import (
	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/stats"
)

// counters is <stat_prefix>.http_bandwidth_limit.*.
type counters struct {
	RequestEnabled        stats.Counter   `stat:"request_enabled" help:"requests to which the limit applies"`
	RequestEnforced       stats.Counter   `stat:"request_enforced" help:"times that a piece of a request had to wait"`
	RequestPending        stats.Gauge     `stat:"request_pending" help:"requests under way"`
	RequestIncoming       stats.Gauge     `stat:"request_incoming_size" help:"bytes of the last piece that came"`
	RequestIncomingTotal  stats.Counter   `stat:"request_incoming_total_size" help:"bytes that came"`
	RequestAllowed        stats.Gauge     `stat:"request_allowed_size" help:"bytes of the last piece that went on"`
	RequestAllowedTotal   stats.Counter   `stat:"request_allowed_total_size" help:"bytes that went on"`
	RequestDuration       stats.Histogram `stat:"request_transfer_duration" help:"milliseconds from the first piece of a body to its end"`
	ResponseEnabled       stats.Counter   `stat:"response_enabled" help:"responses to which the limit applies"`
	ResponseEnforced      stats.Counter   `stat:"response_enforced" help:"times that a piece of a response had to wait"`
	ResponsePending       stats.Gauge     `stat:"response_pending" help:"responses under way"`
	ResponseIncoming      stats.Gauge     `stat:"response_incoming_size" help:"bytes of the last piece that came"`
	ResponseIncomingTotal stats.Counter   `stat:"response_incoming_total_size" help:"bytes that came"`
	ResponseAllowed       stats.Gauge     `stat:"response_allowed_size" help:"bytes of the last piece that went on"`
	ResponseAllowedTotal  stats.Counter   `stat:"response_allowed_total_size" help:"bytes that went on"`
	ResponseDuration      stats.Histogram `stat:"response_transfer_duration" help:"milliseconds from the first piece of a body to its end"`
}

// sideCounters are those of one direction.
type sideCounters struct {
	enabled, enforced, incomingTotal, allowedTotal *stats.Counter
	pending, incoming, allowed                     *stats.Gauge
	duration                                       *stats.Histogram
}

func (c *counters) request() sideCounters {
	return sideCounters{
		&c.RequestEnabled, &c.RequestEnforced, &c.RequestIncomingTotal, &c.RequestAllowedTotal,
		&c.RequestPending, &c.RequestIncoming, &c.RequestAllowed, &c.RequestDuration,
	}
}

func (c *counters) response() sideCounters {
	return sideCounters{
		&c.ResponseEnabled, &c.ResponseEnforced, &c.ResponseIncomingTotal, &c.ResponseAllowedTotal,
		&c.ResponsePending, &c.ResponseIncoming, &c.ResponseAllowed, &c.ResponseDuration,
	}
}

// shared is what the streams of a filter have in common.
type shared struct {
	own  *Config
	slot filter.Slot
	by   *stats.ByName[counters]
}

func newShared(c *Config, env filter.Env) *shared {
	sh := &shared{own: c, slot: env.Slot, by: stats.NewByName(func(prefix string) (*counters, func()) {
		return stats.SharedAt[counters](env.Stats, stats.Label{Value: prefix}, stats.Label{Value: "http_bandwidth_limit"})
	})}
	sh.by.Of(c.StatPrefix)
	env.OnRetire(sh.by.Close)
	return sh
}
