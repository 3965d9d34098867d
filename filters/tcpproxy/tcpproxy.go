// Package tcpproxy is the terminal network filter tcp_proxy: it connects to a host
// of a cluster as soon as the client has connected, so that protocols work in which
// the server speaks first, and relays bytes both ways.
//
// Moving the bytes is not here (package l4), nor is choosing a host (package cluster).
package tcpproxy

import (
	"errors"
	"math/rand/v2"
	"strconv"
	"time"

	"github.com/mecha-mesh/mecha/proxy/accesslog"
	"github.com/mecha-mesh/mecha/proxy/backoff"
	"github.com/mecha-mesh/mecha/proxy/buffer"
	"github.com/mecha-mesh/mecha/proxy/cluster"
	"github.com/mecha-mesh/mecha/proxy/codec"
	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/meta"
	"github.com/mecha-mesh/mecha/proxy/netio"
	"github.com/mecha-mesh/mecha/proxy/stats"
	"github.com/mecha-mesh/mecha/proxy/transport"
)

// Spec describes the filter.
var Spec = filter.NetworkSpec[*Config]{
	Name:  "envoy.filters.network.tcp_proxy",
	Type:  "envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy",
	Parse: parse,
	New:   newFactory,
}

// Config is the parsed configuration.
type Config struct {
	StatPrefix string
	Clusters   []Weighted // one, or several with weights; at least one
	total      uint64     // of the weights
	// IdleTimeout ends a connection after that much silence; 1 h unless set, 0 is never.
	IdleTimeout time.Duration
	// MaxConnectAttempts is how many hosts are tried; 1 unless set.
	MaxConnectAttempts int
	Backoff            backoff.Policy // the pause between connect attempts
	// MaxDuration ends a connection (max_downstream_connection_duration); 0 is never.
	MaxDuration time.Duration
	// Jitter lengthens MaxDuration by up to that share of it, in percent.
	Jitter       float64
	HashSourceIP bool   // hash_policy: source_ip
	HashState    string // hash_policy: the key of filter_state, "" is none
	// Logs are written when a connection has ended, and as LogTimes say.
	Logs     []accesslog.Spec
	LogTimes LogTimes
	// AwaitData connects only when the client has sent something (ON_DOWNSTREAM_DATA).
	AwaitData bool
	Tunnel    *Tunnel // nil connects directly
	Demand    *Demand // nil asks for no clusters
	TLVs      []TLV   // proxy_protocol_tlvs
	TLVMerge  TLVMerge
	// DrainClose ends connections once their listener drains, when the next bytes have
	// been moved (check_drain_close).
	DrainClose bool
}

// Weighted is a cluster and its share of the connections.
type Weighted struct {
	Name   string
	Weight uint32
	Match  cluster.Labels // metadata_match, merged with that of the filter
}

// counters is tcp.<stat_prefix>.*.
type counters struct {
	Total   stats.Counter `stat:"downstream_cx_total" help:"connections"`
	NoRoute stats.Counter `stat:"downstream_cx_no_route" help:"connections for which there was no cluster"`
	Rx      stats.Counter `stat:"downstream_cx_rx_bytes_total" help:"bytes from clients"`
	Tx      stats.Counter `stat:"downstream_cx_tx_bytes_total" help:"bytes to clients"`
	Idle    stats.Counter `stat:"idle_timeout" help:"connections closed after silence"`
	MaxLife stats.Counter `stat:"max_downstream_connection_duration" help:"connections closed because they had lived long enough"`
	Paused  stats.Counter `stat:"downstream_flow_control_paused_reading_total" help:"times that reading from a client was paused since the host took no more"`
	Resumed stats.Counter `stat:"downstream_flow_control_resumed_reading_total" help:"times that this was over"`
	Early   stats.Counter `stat:"early_data_received_count_total" help:"connections whose first bytes were awaited before connecting"`
	Retries stats.Counter `stat:"mecha_connect_retries" help:"further connect attempts after a failed one"`

	demandCounters
}

// proxy is one tcp_proxy in a filter chain.
type proxy struct {
	c        *Config
	s        *counters
	logs     *accesslog.Set
	clusters cluster.Source
	demand   filter.Demand // nil: nothing can be asked for
}

func newFactory(c *Config, env filter.Env) (func() filter.Network, error) {
	logs, err := accesslog.OpenSet(c.Logs, env.Logs)
	if err != nil {
		return nil, err
	}
	env.OnRetire(logs.Close)
	s, release := stats.Shared[counters](env.Stats, "tcp", "envoy_tcp_prefix", c.StatPrefix)
	env.OnRetire(release)
	p := &proxy{c: c, s: s, logs: logs, clusters: env.Clusters, demand: env.Demand}
	return func() filter.Network { return &session{proxy: p} }, nil
}

// session serves one connection at a time.
type session struct {
	*proxy
	attempt cluster.Attempt
	options transport.Options
	log     liveLog
}

var (
	_ filter.ConnTerminal = (*session)(nil)
	_ filter.ConnCloser   = (*session)(nil)
)

// Reset implements filter.Network.
func (s *session) Reset() {
	s.attempt, s.options = cluster.Attempt{}, transport.Options{}
	s.log.reset()
}

// Serve implements filter.ConnTerminal.
func (s *session) Serve(c *filter.Conn) error {
	s.s.Total.Inc()
	s.begin(c)
	defer s.log.end()
	sock := c.Engine.Socket()
	if s.c.MaxDuration > 0 {
		t := time.AfterFunc(s.c.lifetime(), sock.Cut)
		defer func() {
			if !t.Stop() {
				s.s.MaxLife.Inc()
				c.Log.Flags |= meta.DurationTimeout
			}
		}()
	}
	var early buffer.Buf
	defer early.Release()
	if s.c.AwaitData {
		if err := s.await(c, &early); err != nil {
			return err
		}
	}
	up, err := s.connect(c)
	if err != nil {
		return err
	}
	st := up.Stats()
	if up.tcp != nil { // connections that are shared count for themselves
		up.tcp.CountInto(&st.UpstreamCxRxBytesTotal, &st.UpstreamCxTxBytesTotal)
		up.tcp.CountStallsFor(netio.Stalls{Begun: &s.s.Paused, Over: &s.s.Resumed})
	}
	sock.CountStalls(netio.Stalls{Begun: &st.UpstreamFlowControlPausedReadingTotal, Over: &st.UpstreamFlowControlResumedReadingTotal})
	s.logConnected(c)
	if err := up.peer().WriteBuf(&early); err != nil {
		up.end(true)
		return err
	}
	res, err := c.Engine.Relay(up.peer(), filter.RelayOptions{Idle: s.idleTimeout(c), Drain: s.c.DrainClose})
	s.log.end()
	s.record(c, res, err)
	up.end(res.Reset || err != nil && up.tunnel != nil)
	return err
}

// await waits for the first bytes of the client. Where nobody else looks at them they
// stay in front of the socket, otherwise they are moved to early, past the hooks.
func (s *session) await(c *filter.Conn, early *buffer.Buf) error {
	end, err := c.Engine.Recv(early)
	if err != nil {
		return err
	}
	if end && early.Len() == 0 {
		return errNoData
	}
	s.s.Early.Inc()
	c.Log.BytesReceived = int64(early.Len())
	if c.Engine.Plain() {
		c.Log.BytesReceived = 0 // the relay counts them
		c.Engine.Socket().Unread(early)
	}
	return nil
}

var errNoData = errors.New("tcp_proxy: the client ended without sending anything")

// IdleTimeoutKey is the filter state under which a connection may have an idle timeout
// of its own, in milliseconds.
const IdleTimeoutKey = "envoy.tcp_proxy.per_connection_idle_timeout_ms"

func (s *session) idleTimeout(c *filter.Conn) time.Duration {
	if text, ok := filter.StateText(c.State.Get(IdleTimeoutKey)); ok {
		if ms, err := strconv.ParseUint(text, 10, 32); err == nil {
			return time.Duration(ms) * time.Millisecond
		}
	}
	return s.c.IdleTimeout
}

func (c *Config) lifetime() time.Duration {
	d := c.MaxDuration + time.Duration(float64(c.MaxDuration)*c.Jitter/100*rand.Float64())
	return max(d, c.MaxDuration) // the sum of two centuries overflows
}

// record notes what the relay moved and how it ended.
func (s *session) record(c *filter.Conn, res filter.RelayResult, err error) {
	l := &c.Log
	l.BytesReceived += res.Received // early data is there already
	l.BytesSent = res.Sent
	l.UpstreamSent, l.UpstreamReceived = l.BytesReceived, l.BytesSent
	switch {
	case res.Timeout:
		s.s.Idle.Inc()
	case res.Ended == filter.Upstream && (res.Reset || errors.Is(err, codec.ErrReset)):
		l.Flags |= meta.UpstreamRemoteReset
	case res.Ended == filter.Upstream:
		l.Flags |= meta.UpstreamConnectionTermination
	}
}

// OnClose implements filter.ConnCloser.
func (s *session) OnClose(c *filter.Conn, _ error) {
	if s.logs != nil {
		s.logs.Log(c.LogEntry())
	}
}
