// Package redisproxy is the terminal network filter redis_proxy: it takes the commands of a
// Redis client apart, sends each to the host that its key belongs to, and gives the replies
// back in order.
//
// A connection to a host is borrowed for what a client sends at once, and given back with
// the last reply: the goroutine of the client does all the work, and nobody waits for
// somebody else's reply. A subscription, a transaction and a command that blocks keep theirs.
//
// The protocol is not here (proxy/codec/resp), nor is choosing a host (proxy/cluster).
package redisproxy

import (
	"time"

	"github.com/mecha-mesh/mecha/proxy/cluster"
	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/runtime"
	"github.com/mecha-mesh/mecha/proxy/stats"
)

// Spec describes the filter.
var Spec = filter.NetworkSpec[*Config]{
	Name:  "envoy.filters.network.redis_proxy",
	Type:  "envoy.extensions.filters.network.redis_proxy.v3.RedisProxy",
	Parse: parse,
	New:   newFactory,
}

// Config is the parsed configuration.
type Config struct {
	StatPrefix  string
	OpTimeout   time.Duration // how long a host may take for a reply
	HashTags    bool          // only what is between { and } of a key is hashed
	Redirection bool          // MOVED and ASK are followed
	Micros      bool          // latencies are counted in microseconds, not milliseconds
	HostStats   bool          // commands are counted for each cluster, too
	Version     int           // of RESP, 2 or 3
	Routes      routes
	Users       []user // nobody has to authenticate if there are none
	Faults      []fault
	Custom      []string // commands that are treated like GET
}

// user is who may connect. A user without a name has the password of AUTH's short form.
type user struct{ name, password string }

// fault is what happens to some commands.
type fault struct {
	fails bool          // they are answered with an error
	delay time.Duration // they wait
	share runtime.FractionSetting
	names map[string]bool // of commands, in lower case; nil is all
}

// counters is redis.<stat_prefix>.*.
type counters struct {
	Total       stats.Counter `stat:"downstream_cx_total" help:"connections"`
	Active      stats.Gauge   `stat:"downstream_cx_active" help:"connections that are open"`
	DrainClose  stats.Counter `stat:"downstream_cx_drain_close" help:"connections closed since their listener drains"`
	BadProtocol stats.Counter `stat:"downstream_cx_protocol_error" help:"connections closed since the client did not speak RESP"`
	Rx          stats.Counter `stat:"downstream_cx_rx_bytes_total" help:"bytes from clients"`
	Tx          stats.Counter `stat:"downstream_cx_tx_bytes_total" help:"bytes to clients"`
	Commands    stats.Counter `stat:"downstream_rq_total" help:"commands"`
	Pending     stats.Gauge   `stat:"downstream_rq_active" help:"commands that are being carried out"`
	NoProto     stats.Counter `stat:"downstream_rq_noproto" help:"commands refused since the client has not asked for RESP3"`
	Invalid     stats.Counter `stat:"splitter.invalid_request" help:"commands that have too few arguments, or are no commands"`
	Unsupported stats.Counter `stat:"splitter.unsupported_command" help:"commands that this proxy does not know"`
	Redirected  stats.Counter `stat:"mecha_redirected" help:"commands sent again to where MOVED or ASK pointed"`
	MirrorLost  stats.Counter `stat:"mecha_mirror_dropped" help:"commands that were not mirrored since too many were waiting"`
}

// commandCounters is redis.<stat_prefix>.command.<command>.*.
type commandCounters struct {
	Total   stats.Counter   `stat:"total" help:"commands"`
	Success stats.Counter   `stat:"success" help:"commands that were answered"`
	Error   stats.Counter   `stat:"error" help:"commands that no host has answered, or one of several with an error"`
	Failed  stats.Counter   `stat:"error_fault" help:"commands answered with an error by fault injection"`
	Delayed stats.Counter   `stat:"delay_fault" help:"commands delayed by fault injection"`
	Latency stats.Histogram `stat:"latency" help:"time until the reply, in milliseconds or microseconds"`
}

// proxy is one redis_proxy in a filter chain.
type proxy struct {
	c        *Config
	s        *counters
	commands table
	counts   *stats.ByName[commandCounters]
	clusters cluster.Source
	runtime  *runtime.Runtime
	pool     *pool
	mirror   chan mirrored
}

func newFactory(c *Config, env filter.Env) (func() filter.Network, error) {
	s, release := stats.Shared[counters](env.Stats, "redis", "envoy_redis_prefix", c.StatPrefix)
	p := &proxy{c: c, s: s, commands: newTable(c.Custom), clusters: env.Clusters, runtime: env.Runtime, pool: newPool(c)}
	p.counts = stats.NewByName(func(name string) (*commandCounters, func()) {
		return stats.SharedAt[commandCounters](env.Stats,
			stats.Label{Value: "redis"}, stats.Label{Name: "envoy_redis_prefix", Value: c.StatPrefix},
			stats.Label{Value: "command"}, stats.Label{Value: name})
	})
	stop := p.startMirror()
	env.OnRetire(func() {
		stop()
		p.pool.close()
		p.counts.Close()
		release()
	})
	return func() filter.Network { return &session{proxy: p} }, nil
}
