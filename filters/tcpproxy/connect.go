package tcpproxy

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"github.com/mecha-mesh/mecha/proxy/cluster"
	"github.com/mecha-mesh/mecha/proxy/cluster/outlier"
	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/match"
	"github.com/mecha-mesh/mecha/proxy/meta"
)

// ClusterKey is the filter state that names a cluster in place of the configured one.
const ClusterKey = "envoy.tcp_proxy.cluster"

// connection is what a connection is relayed with, and its cluster: one of tcp and tunnel
// is there.
type connection struct {
	*cluster.Cluster
	tcp    *cluster.TCPConn
	tunnel *stream
}

// peer is how the relay sees it.
func (c *connection) peer() filter.Peer {
	if c.tunnel != nil {
		return c.tunnel
	}
	return c.tcp.Conn
}

// end closes it, with a reset if nobody is left to be told of an orderly end.
func (c *connection) end(reset bool) {
	switch {
	case c.tunnel != nil:
		c.tunnel.close(reset)
	case reset:
		_ = c.tcp.Abort()
	default:
		_ = c.tcp.Close()
	}
}

var errNoCluster = errors.New("tcp_proxy: no such cluster")

// connect makes the upstream connection, trying again as configured.
func (s *session) connect(c *filter.Conn) (connection, error) {
	name := s.choose(c)
	ctx := c.Engine.Context()
	cl := s.find(ctx, name)
	if cl == nil {
		s.s.NoRoute.Inc()
		c.Log.Flags |= meta.NoClusterFound
		return connection{}, errNoCluster
	}
	c.Log.Cluster, c.Log.ClusterStatName = cl.Spec().Name, cl.Spec().StatName
	s.prepare(c)
	for {
		up, err := s.try(ctx, c, cl)
		if err == nil {
			c.Log.PoolReady = time.Since(c.Log.Start)
			return up, nil
		}
		var failed *cluster.ConnectError
		switch {
		case errors.Is(err, errSilent):
			s.s.Idle.Inc()
			c.Log.Flags |= meta.UpstreamConnectionFailure
			return connection{}, err
		case !errors.As(err, &failed):
			return connection{}, err
		}
		if c.Log.Attempts >= s.c.MaxConnectAttempts {
			cl.Stats().UpstreamCxConnectAttemptsExceeded.Inc()
			c.Log.Flags |= meta.UpstreamConnectionFailure | meta.UpstreamRetryLimitExceeded
			return connection{}, err
		}
		s.s.Retries.Inc()
		if err := s.c.Backoff.Wait(ctx, c.Log.Attempts); err != nil {
			return connection{}, err
		}
		if c.Engine.Socket().PeerReset() {
			return connection{}, err
		}
	}
}

// choose returns the cluster for the connection: filter state wins over configuration.
func (s *session) choose(c *filter.Conn) string {
	if name, ok := filter.StateText(c.State.Get(ClusterKey)); ok && name != "" {
		return name
	}
	w := s.c.pick()
	s.attempt.Match = w.Match
	return w.Name
}

// prepare says what a pick and a connection depend on.
func (s *session) prepare(c *filter.Conn) {
	s.attempt.Conn, s.attempt.Stream, s.attempt.State, s.attempt.Metadata = c.Meta, &c.Log, c, &c.Metadata
	s.attempt.Shared = c.State.Shared()
	switch {
	case s.c.HashSourceIP && c.Meta.Remote.Addr().IsValid():
		s.attempt.Hash, s.attempt.HasHash = match.Hash64(c.Meta.Remote.Addr().AppendTo(nil), 0), true
	case s.c.HashState != "":
		if text, ok := filter.StateText(c.State.Get(s.c.HashState)); ok {
			s.attempt.Hash, s.attempt.HasHash = match.Hash64(text, 0), true
		}
	}
	s.options.FromState(c)
	if len(s.c.TLVs) > 0 {
		s.options.TLVs = s.tlvs(c)
	}
	s.attempt.Options = &s.options
}

// try makes one attempt.
func (s *session) try(ctx context.Context, c *filter.Conn, cl *cluster.Cluster) (connection, error) {
	l := &c.Log
	h, err := cl.Pick(&s.attempt)
	if err != nil {
		l.Flags |= meta.NoHealthyUpstream
		return connection{}, err
	}
	l.Attempts++
	l.ClusterMetadata = cl.Spec().LogMetadata
	l.UpstreamHost, l.UpstreamHostname, l.HostMetadata = h.Addr, h.Hostname, h.Metadata
	up, err := s.reach(ctx, c, cl, h)
	report(h, err)
	if err != nil {
		var failed *cluster.ConnectError
		switch {
		case errors.Is(err, cluster.ErrOverflow), errors.Is(err, cluster.ErrPendingOverflow):
			l.Flags |= meta.UpstreamOverflow
		case errors.As(err, &failed):
			l.UpstreamFailure = failed.Reason()
		}
		return connection{}, err
	}
	l.UpstreamFailure = ""
	return up, nil
}

// reach connects to a host, and opens a tunnel where one is wanted.
func (s *session) reach(ctx context.Context, c *filter.Conn, cl *cluster.Cluster, h *cluster.Host) (connection, error) {
	t, l := s.c.Tunnel, &c.Log
	if t != nil && t.overStream(cl) {
		up, err := t.openStream(ctx, c, cl, h, &s.attempt, s.idleTimeout(c))
		if err != nil {
			return connection{}, noTunnel(h, err)
		}
		l.UpstreamLocal, l.UpstreamConn, l.UpstreamTLS = up.conn.Local, up.conn.ID, up.conn.TLS
		return connection{Cluster: cl, tunnel: up}, nil
	}
	up, err := cl.Dial(ctx, h, &s.attempt)
	if err != nil {
		return connection{}, err
	}
	if t != nil {
		if err := t.open(ctx, c, up, s.idleTimeout(c)); err != nil {
			_ = up.Close() // it is of no use
			return connection{}, noTunnel(h, err)
		}
	}
	l.UpstreamLocal, l.UpstreamConn, l.UpstreamTLS = up.Local, up.ID, up.TLS
	return connection{Cluster: cl, tcp: up}, nil
}

// noTunnel makes the refusal of a tunnel a failure to connect, unless it is a limit of ours.
func noTunnel(h *cluster.Host, err error) error {
	if errors.Is(err, cluster.ErrOverflow) || errors.Is(err, cluster.ErrPendingOverflow) || errors.As(err, new(*cluster.ConnectError)) {
		return err
	}
	return &cluster.ConnectError{Host: h.Addr, Err: err}
}

// report tells outlier detection how it went to connect to a host.
func report(h *cluster.Host, err error) {
	o := h.Outlier()
	if err == nil {
		o.Put(outlier.ConnectedOnly, 0)
		return
	}
	var failed *cluster.ConnectError
	switch {
	case !errors.As(err, &failed): // a limit, or the client has gone
	case failed.Timeout:
		o.Put(outlier.TimedOut, 0)
	default:
		o.Put(outlier.ConnectFailed, 0)
	}
}

// pick chooses a cluster by weight.
func (c *Config) pick() *Weighted {
	if len(c.Clusters) == 1 {
		return &c.Clusters[0]
	}
	n := rand.Uint64N(c.total)
	for i := range c.Clusters {
		w := &c.Clusters[i]
		if n < uint64(w.Weight) {
			return w
		}
		n -= uint64(w.Weight)
	}
	return &c.Clusters[0] // the weights sum up to total
}
