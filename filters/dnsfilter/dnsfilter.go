// Package dnsfilter is the UDP listener filter dns_filter: it answers DNS queries for
// addresses (A, AAAA) and services (SRV) from a table in its configuration and from the
// hosts of clusters, and asks resolvers for names that are in neither.
//
// Looking names up is in package cluster/dns.
package dnsfilter

import (
	"context"
	"net"
	"time"

	"github.com/mecha-mesh/mecha/proxy/accesslog"
	"github.com/mecha-mesh/mecha/proxy/cluster"
	"github.com/mecha-mesh/mecha/proxy/cluster/dns"
	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/meta"
	"github.com/mecha-mesh/mecha/proxy/netio"
	"github.com/mecha-mesh/mecha/proxy/stats"
)

// Spec describes the filter.
var Spec = filter.UDPSpec[*Config]{
	Name:  "envoy.filters.udp.dns_filter",
	Type:  "envoy.extensions.filters.udp.dns_filter.v3.DnsFilterConfig",
	Parse: parse,
	New:   newFilter,
}

// Config is the parsed configuration.
type Config struct {
	StatPrefix string
	Table      *table
	// External says how names are looked up that the table does not know; nil is not at all.
	External *External
	// Logs are written for each query.
	Logs []accesslog.Spec
}

// External is client_config.
type External struct {
	Options dns.Options
	Timeout time.Duration // of a lookup, all tries included
	// Pending is max_pending_lookups; more are answered with a failure.
	Pending int
}

// counters is dns_filter.<stat_prefix>.*.
type counters struct {
	Rx          stats.Counter   `stat:"downstream_rx_queries" help:"queries"`
	Invalid     stats.Counter   `stat:"downstream_rx_invalid_queries" help:"queries that are malformed, or no queries"`
	Tx          stats.Counter   `stat:"downstream_tx_responses" help:"responses"`
	RxBytes     stats.Histogram `stat:"downstream_rx_bytes" help:"sizes of queries"`
	TxBytes     stats.Histogram `stat:"downstream_tx_bytes" help:"sizes of responses"`
	Latency     stats.Histogram `stat:"downstream_rx_query_latency" help:"milliseconds from query to response"`
	A           stats.Counter   `stat:"a_record_queries" help:"queries for IPv4 addresses"`
	AAAA        stats.Counter   `stat:"aaaa_record_queries" help:"queries for IPv6 addresses"`
	SRV         stats.Counter   `stat:"srv_record_queries" help:"queries for services"`
	Unsupported stats.Counter   `stat:"unsupported_queries" help:"queries for something else"`
	Known       stats.Counter   `stat:"known_domain_queries" help:"queries for names of the table"`
	Unanswered  stats.Counter   `stat:"unanswered_queries" help:"queries without an answer"`
	LocalA      stats.Counter   `stat:"local_a_record_answers" help:"IPv4 addresses from the table"`
	LocalAAAA   stats.Counter   `stat:"local_aaaa_record_answers" help:"IPv6 addresses from the table"`
	LocalSRV    stats.Counter   `stat:"local_srv_record_answers" help:"services from the table"`
	ClusterA    stats.Counter   `stat:"cluster_a_record_answers" help:"IPv4 addresses of hosts"`
	ClusterAAAA stats.Counter   `stat:"cluster_aaaa_record_answers" help:"IPv6 addresses of hosts"`
	ClusterSRV  stats.Counter   `stat:"cluster_srv_record_answers" help:"services whose targets are clusters"`
	ExtAQ       stats.Counter   `stat:"external_a_record_queries" help:"lookups of IPv4 addresses"`
	ExtAAAAQ    stats.Counter   `stat:"external_aaaa_record_queries" help:"lookups of IPv6 addresses"`
	ExtA        stats.Counter   `stat:"external_a_record_answers" help:"IPv4 addresses that were looked up"`
	ExtAAAA     stats.Counter   `stat:"external_aaaa_record_answers" help:"IPv6 addresses that were looked up"`
	External    stats.Counter   `stat:"externally_resolved_queries" help:"queries answered by a lookup"`
	Overflow    stats.Counter   `stat:"mecha_external_overflow" help:"queries refused because too many lookups were under way"`
	Failed      stats.Counter   `stat:"mecha_external_failures" help:"lookups that failed"`
}

// server is one dns_filter of a version of a listener.
type server struct {
	c        *Config
	s        *counters
	logs     *accesslog.Set
	clusters cluster.Source
	resolver *dns.Resolver
	pending  chan struct{} // a place for each lookup
	ctx      context.Context
}

// dialer gives the connections of lookups the mark of the proxy's own traffic: they must
// not be captured and come back here.
type dialer interface{ Dialer() *net.Dialer }

func newFilter(c *Config, env filter.Env) (filter.UDP, error) {
	logs, err := accesslog.OpenSet(c.Logs, env.Logs)
	if err != nil {
		return nil, err
	}
	env.OnRetire(logs.Close)
	st, release := stats.Shared[counters](env.Stats, "dns_filter", "", c.StatPrefix)
	env.OnRetire(release)
	f := &server{c: c, s: st, logs: logs, clusters: env.Clusters}
	ctx, cancel := context.WithCancel(context.Background())
	f.ctx = ctx
	env.OnRetire(cancel)
	if c.External != nil {
		dial := new(net.Dialer)
		if d, ok := env.Clusters.(dialer); ok {
			dial = d.Dialer()
		}
		f.resolver = dns.With(c.External.Options, dial.DialContext)
		f.pending = make(chan struct{}, c.External.Pending)
	}
	return f, nil
}

// Open implements filter.UDP.
func (f *server) Open(s filter.UDPSocket) filter.UDPReceiver {
	return &receiver{server: f, sock: s}
}

// receiver answers what comes to one socket.
type receiver struct {
	*server
	sock filter.UDPSocket
	send netio.UDPSender // of the goroutine that reads
	path netio.UDPPath
}

var _ filter.UDPReceiver = (*receiver)(nil)

// Receive implements filter.UDPReceiver.
func (r *receiver) Receive(batch []netio.Datagram) []netio.Datagram {
	for i := range batch {
		d := &batch[i]
		r.s.Rx.Inc()
		r.s.RxBytes.Record(uint64(len(d.Data)))
		q := parseQuery(d.Data)
		q.from, q.to, q.began = d.Peer, d.Local, time.Now()
		r.count(&q)
		if !r.answer(&q) {
			r.lookUp(q)
			continue
		}
		r.reply(&q, &r.send, &r.path)
	}
	return nil
}

// reply sends the response to a query and logs it.
func (r *receiver) reply(q *query, w *netio.UDPSender, path *netio.UDPPath) {
	msg := q.pack()
	if msg == nil {
		return
	}
	path.Set(r.sock.UDPSocket, q.from, q.to)
	w.Add(msg, path)
	if sent, size, _, _ := w.Flush(r.sock.UDPSocket); sent > 0 { // what is lost is asked for again
		r.s.Tx.Inc()
		r.s.TxBytes.Record(uint64(size))
	}
	r.s.Latency.Record(uint64(time.Since(q.began).Milliseconds()))
	if len(q.answers) == 0 {
		r.s.Unanswered.Inc()
	}
	if r.logs != nil {
		peer := meta.Addr{AddrPort: q.from}
		c := meta.Conn{Start: q.began, Listener: r.sock.Listener, Local: meta.Addr{AddrPort: q.to}, Remote: peer, Direct: peer}
		r.logs.Log(&accesslog.Entry{Conn: &c, Lookup: q, Stream: &meta.Stream{
			Start: q.began, End: time.Since(q.began), BytesReceived: int64(q.size), BytesSent: int64(len(msg)),
		}})
	}
}

// Close implements filter.UDPReceiver. Lookups end by themselves; their answers are lost
// where the socket is closed.
func (r *receiver) Close() {}

// lookUp answers a query by asking resolvers.
func (r *receiver) lookUp(q query) {
	select {
	case r.pending <- struct{}{}:
	default:
		r.s.Overflow.Inc()
		q.fail()
		r.reply(&q, &r.send, &r.path)
		return
	}
	go func() {
		defer func() { <-r.pending }()
		ctx, cancel := context.WithTimeout(r.ctx, r.c.External.Timeout)
		defer cancel()
		r.external(ctx, &q)
		r.reply(&q, new(netio.UDPSender), new(netio.UDPPath))
	}()
}
