package extproc

import "github.com/mecha-mesh/mecha/proxy/stats"

// counters are http.<stat_prefix>.ext_proc.[<stat_prefix>.]*.
type counters struct {
	Started          stats.Counter `stat:"streams_started" help:"Conversations with the service."`
	Sent             stats.Counter `stat:"stream_msgs_sent" help:"Messages to the service."`
	Received         stats.Counter `stat:"stream_msgs_received" help:"Messages from the service."`
	Spurious         stats.Counter `stat:"spurious_msgs_received" help:"Messages from the service that answer nothing; they end the conversation."`
	Closed           stats.Counter `stat:"streams_closed" help:"Conversations that were closed."`
	Failed           stats.Counter `stat:"streams_failed" help:"Conversations that the service or the way to it has broken."`
	FailureAllowed   stats.Counter `stat:"failure_mode_allowed" help:"Streams that went on without the service (failure_mode_allow)."`
	Timeouts         stats.Counter `stat:"message_timeouts" help:"Messages that were not answered in time."`
	Rejected         stats.Counter `stat:"rejected_header_mutations" help:"Changes of fields that were not made."`
	OverrideReceived stats.Counter `stat:"override_message_timeout_received" help:"Requests for more time."`
	OverrideIgnored  stats.Counter `stat:"override_message_timeout_ignored" help:"Requests for more time that were not granted."`
	ClearIgnored     stats.Counter `stat:"clear_route_cache_ignored" help:"Wishes to look the route up again that came without a change of fields."`
	ClearDisabled    stats.Counter `stat:"clear_route_cache_disabled" help:"Wishes to look the route up again that the configuration forbids."`
	Immediate        stats.Counter `stat:"immediate_responses_sent" help:"Streams that the service has answered itself."`
	HalfClosed       stats.Counter `stat:"server_half_closed" help:"Conversations that the service has ended."`
}

// bind makes the counters of the chain.
func (ch *chain) bind() *counters {
	c, release := stats.SharedUnder[counters](ch.env.Parent, stats.Path("ext_proc", ch.StatPrefix)...)
	ch.env.OnRetire(release)
	return c
}
