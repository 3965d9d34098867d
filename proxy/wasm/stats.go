package wasm

import "github.com/mecha-mesh/mecha/proxy/stats"

// counters are wasm.<name of the plugin>.*.
type counters struct {
	Traps    stats.Counter `stat:"traps" help:"Calls in which the guest has failed: traps, exits, overruns. The instance is replaced."`
	Overruns stats.Counter `stat:"overruns" help:"Of the traps, those of guests that have run for too long."`
	Failed   stats.Counter `stat:"streams_failed" help:"Streams that a failure was about, or that came while the breaker was open; failure_policy decides about them."`
	Opened   stats.Counter `stat:"breaker_opened" help:"How often the plugin was stopped since it kept failing."`
	Recycled stats.Counter `stat:"recycled" help:"Instances that were replaced since their memory had grown."`
	Denied   stats.Counter `stat:"calls_refused" help:"Calls and messages that the guest was refused, since there were too many."`
}

// lifecycle is wasm.<runtime>.*, as in Envoy: of instances.
type lifecycle struct {
	Created stats.Counter `stat:"created" help:"Instances that were made."`
	Active  stats.Gauge   `stat:"active" help:"Instances that there are."`
}

// fetches are wasm.*, as in Envoy: of code that is fetched.
type fetches struct {
	Hits      stats.Counter `stat:"remote_load_cache_hits" help:"Plugins whose code was here already."`
	Misses    stats.Counter `stat:"remote_load_cache_misses" help:"Plugins whose code had to be fetched."`
	Entries   stats.Gauge   `stat:"remote_load_cache_entries" help:"Modules that were fetched and are kept."`
	Successes stats.Counter `stat:"remote_load_fetch_successes" help:"Requests for code that were answered with it."`
	Failures  stats.Counter `stat:"remote_load_fetch_failures" help:"Requests for code that were not."`
}
