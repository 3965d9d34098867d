// Package tcpproxy is the terminal network filter tcp_proxy: it connects to a host
// of a cluster as soon as the client has connected, so that protocols work in which
// the server speaks first, and relays bytes both ways.
//
// Moving the bytes is not here (package l4), nor is choosing a host (package cluster).
package tcpproxy

import (
	"context"
	"errors"
	"math/rand/v2"
	"net/netip"
	"syscall"
	"time"

	"github.com/mecha-mesh/mecha/proxy/accesslog"
	"github.com/mecha-mesh/mecha/proxy/cluster"
	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/meta"
	"github.com/mecha-mesh/mecha/proxy/stats"
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
	Backoff            Backoff
	// MaxDuration ends a connection (max_downstream_connection_duration); 0 is never.
	MaxDuration time.Duration
	// Jitter lengthens MaxDuration by up to that share of it, in percent.
	Jitter       float64
	HashSourceIP bool // hash_policy: source_ip
	// Logs are written when a connection has ended.
	Logs []accesslog.Spec
}

// Weighted is a cluster and its share of the connections.
type Weighted struct {
	Name   string
	Weight uint32
}

// Backoff is the pause between connect attempts; the zero value is none.
type Backoff struct{ Base, Max time.Duration }

// counters is tcp.<stat_prefix>.*.
type counters struct {
	Total   stats.Counter `stat:"downstream_cx_total" help:"connections"`
	NoRoute stats.Counter `stat:"downstream_cx_no_route" help:"connections for which there was no cluster"`
	Rx      stats.Counter `stat:"downstream_cx_rx_bytes_total" help:"bytes from clients"`
	Tx      stats.Counter `stat:"downstream_cx_tx_bytes_total" help:"bytes to clients"`
	Idle    stats.Counter `stat:"idle_timeout" help:"connections closed after silence"`
	MaxLife stats.Counter `stat:"max_downstream_connection_duration" help:"connections closed because they had lived long enough"`
	Retries stats.Counter `stat:"mecha_connect_retries" help:"further connect attempts after a failed one"`
}

// proxy is one tcp_proxy in a filter chain.
type proxy struct {
	c        *Config
	s        *counters
	logs     *accesslog.Set
	clusters cluster.Source
}

func newFactory(c *Config, env filter.Env) (func() filter.Network, error) {
	logs, err := accesslog.OpenSet(c.Logs, env.Logs)
	if err != nil {
		return nil, err
	}
	env.OnRetire(logs.Close)
	s, release := stats.Shared[counters](env.Stats, "tcp", "envoy_tcp_prefix", c.StatPrefix)
	env.OnRetire(release)
	p := &proxy{c: c, s: s, logs: logs, clusters: env.Clusters}
	return func() filter.Network { return &session{proxy: p} }, nil
}

// session serves one connection at a time.
type session struct {
	*proxy
	attempt cluster.Attempt
}

var (
	_ filter.ConnTerminal = (*session)(nil)
	_ filter.ConnCloser   = (*session)(nil)
)

// Reset implements filter.Network.
func (s *session) Reset() { *s = session{proxy: s.proxy} }

var errNoCluster = errors.New("tcp_proxy: no such cluster")

// Serve implements filter.ConnTerminal.
func (s *session) Serve(c *filter.Conn) error {
	s.s.Total.Inc()
	sock := c.Engine.Socket()
	sock.CountInto(&s.s.Rx, &s.s.Tx)
	if s.c.MaxDuration > 0 {
		t := time.AfterFunc(s.c.lifetime(), sock.Cut)
		defer func() {
			if !t.Stop() {
				s.s.MaxLife.Inc()
				c.Log.Flags |= meta.DurationTimeout
			}
		}()
	}
	up, err := s.connect(c)
	if err != nil {
		return err
	}
	st := up.Stats()
	up.CountInto(&st.UpstreamCxRxBytesTotal, &st.UpstreamCxTxBytesTotal)
	res, err := c.Engine.Relay(up.Conn, s.c.IdleTimeout)
	s.record(c, res)
	if res.Reset {
		_ = up.Abort() // nobody is left to tell
	} else {
		_ = up.Close()
	}
	return err
}

func (c *Config) lifetime() time.Duration {
	d := c.MaxDuration + time.Duration(float64(c.MaxDuration)*c.Jitter/100*rand.Float64())
	return max(d, c.MaxDuration) // the sum of two centuries overflows
}

// record notes what the relay moved and how it ended.
func (s *session) record(c *filter.Conn, res filter.RelayResult) {
	l := &c.Log
	l.BytesReceived, l.BytesSent = res.Received, res.Sent
	l.UpstreamSent, l.UpstreamReceived = res.Received, res.Sent
	switch {
	case res.Timeout:
		s.s.Idle.Inc()
	case res.Ended == filter.Upstream && res.Reset:
		l.Flags |= meta.UpstreamRemoteReset
	case res.Ended == filter.Upstream:
		l.Flags |= meta.UpstreamConnectionTermination
	}
}

// connection is an upstream connection with its cluster.
type connection struct {
	*cluster.TCPConn
	*cluster.Cluster
}

// connect makes the upstream connection, trying again as configured.
func (s *session) connect(c *filter.Conn) (connection, error) {
	name := s.c.pick()
	cl := s.clusters.Cluster(name)
	if cl == nil {
		s.s.NoRoute.Inc()
		c.Log.Flags |= meta.NoClusterFound
		return connection{}, errNoCluster
	}
	c.Log.Cluster = cl.Spec().StatName
	s.attempt.Conn = c.Meta
	if s.c.HashSourceIP {
		s.attempt.Hash, s.attempt.HasHash = hashIP(c.Meta.Remote.Addr()), true
	}
	ctx := c.Engine.Context()
	for {
		up, err := s.try(ctx, c, cl)
		if err == nil {
			c.Log.PoolReady = time.Since(c.Log.Start)
			return connection{up, cl}, nil
		}
		var failed *cluster.ConnectError
		if !errors.As(err, &failed) {
			return connection{}, err
		}
		if c.Log.Attempts >= s.c.MaxConnectAttempts {
			cl.Stats().UpstreamCxConnectAttemptsExceeded.Inc()
			c.Log.Flags |= meta.UpstreamConnectionFailure | meta.UpstreamRetryLimitExceeded
			return connection{}, err
		}
		s.s.Retries.Inc()
		if err := s.c.Backoff.wait(ctx, c.Log.Attempts); err != nil {
			return connection{}, err
		}
		if c.Engine.Socket().PeerReset() {
			return connection{}, err
		}
	}
}

// try makes one attempt.
func (s *session) try(ctx context.Context, c *filter.Conn, cl *cluster.Cluster) (*cluster.TCPConn, error) {
	l := &c.Log
	h, err := cl.Pick(&s.attempt)
	if err != nil {
		l.Flags |= meta.NoHealthyUpstream
		return nil, err
	}
	l.Attempts++
	l.UpstreamHost, l.UpstreamHostname = h.Addr, h.Hostname
	up, err := cl.Dial(ctx, h, &s.attempt)
	if err != nil {
		var failed *cluster.ConnectError
		switch {
		case errors.Is(err, cluster.ErrOverflow):
			l.Flags |= meta.UpstreamOverflow
		case errors.As(err, &failed):
			l.UpstreamFailure = reason(failed)
		}
		return nil, err
	}
	l.UpstreamFailure = ""
	l.UpstreamLocal, l.UpstreamConn = up.Local, up.ID
	return up, nil
}

// reason puts a failed connect in Envoy's words (upstream_transport_failure_reason).
func reason(e *cluster.ConnectError) string {
	if e.Timeout {
		return "connection timeout"
	}
	var no syscall.Errno
	if !errors.As(e.Err, &no) {
		return e.Err.Error()
	}
	text := []byte(no.Error())
	if len(text) > 0 && 'a' <= text[0] && text[0] <= 'z' {
		text[0] -= 'a' - 'A'
	}
	return "delayed connect error: " + string(text)
}

// pick chooses a cluster by weight.
func (c *Config) pick() string {
	if len(c.Clusters) == 1 {
		return c.Clusters[0].Name
	}
	n := rand.Uint64N(c.total)
	for _, w := range c.Clusters {
		if n < uint64(w.Weight) {
			return w.Name
		}
		n -= uint64(w.Weight)
	}
	return c.Clusters[0].Name // the weights sum up to total
}

// wait pauses before attempt n+1: a random time that grows with n.
func (b Backoff) wait(ctx context.Context, n int) error {
	if b.Base <= 0 {
		return ctx.Err()
	}
	d := b.Base << min(n-1, 20)
	if b.Max > 0 {
		d = min(d, b.Max)
	}
	t := time.NewTimer(rand.N(d) + 1)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-t.C:
		return nil
	}
}

// hashIP is FNV-1a of the address.
func hashIP(a netip.Addr) uint64 {
	h := uint64(14695981039346656037)
	for _, b := range a.AsSlice() {
		h = (h ^ uint64(b)) * 1099511628211
	}
	return h
}

// OnClose implements filter.ConnCloser.
func (s *session) OnClose(c *filter.Conn, _ error) {
	if s.logs != nil {
		s.logs.Log(c.LogEntry())
	}
}
