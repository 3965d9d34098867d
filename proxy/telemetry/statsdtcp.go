package telemetry

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/mecha-mesh/mecha/proxy/cluster"
	"github.com/mecha-mesh/mecha/proxy/filter/call"
	"github.com/mecha-mesh/mecha/proxy/stats"
	"github.com/mecha-mesh/mecha/proxy/stats/statsd"
)

// tcpStats are those of statsd over TCP.
type tcpStats struct {
	Overflow stats.Counter `stat:"cx_overflow" help:"Connections closed, and intervals dropped, since statsd did not take statistics in time"`
	Failed   stats.Counter `stat:"cx_failed" help:"Intervals lost since there was no connection, or since it broke"`
}

// tcpSink sends lines of statsd over a connection of a cluster, one flush after another.
type tcpSink struct {
	*outbox
	c        *statsd.Config
	st       *tcpStats
	gone     func()
	clusters cluster.Source
	conn     *cluster.TCPConn // nil: there is none
	ended    <-chan struct{}  // closed when it was
}

// statsdPatience is how long statsd may take for what one interval has come to.
const statsdPatience = 10 * time.Second

func (h *Hub) tcpStatsd(c *statsd.Config) *tcpSink {
	s := &tcpSink{c: c, clusters: h.clusters}
	s.st, s.gone = stats.Shared[tcpStats](h.o.Stats, "statsd", "", "")
	s.outbox = newOutbox(func(ctx context.Context, messages [][]byte) {
		for _, m := range messages {
			s.send(ctx, m)
		}
	})
	return s
}

// Close implements sink.
func (s *tcpSink) Close(ctx context.Context) {
	if s.outbox.Close(ctx) && s.conn != nil {
		_ = s.conn.Close() // all that there was is with the system
	}
	s.gone()
}

// Flush implements sink.
func (s *tcpSink) Flush(samples []stats.Sample) {
	var b []byte
	s.c.Lines(samples, func(line []byte) { b = append(append(b, line...), '\n') })
	if len(b) > 0 && !s.put([][]byte{b}) {
		s.st.Overflow.Inc()
	}
}

func (s *tcpSink) send(ctx context.Context, lines []byte) {
	ctx, cancel := context.WithTimeout(ctx, statsdPatience)
	defer cancel()
	if !s.alive() {
		if err := s.connect(ctx); err != nil {
			s.st.Failed.Inc()
			return
		}
	}
	until, _ := ctx.Deadline()
	err := s.conn.SetWriteDeadline(until)
	if err == nil {
		var n int
		n, err = s.conn.Write(lines)
		s.conn.CountBytes(0, int64(n))
	}
	switch {
	case err == nil:
		return
	case errors.Is(err, os.ErrDeadlineExceeded):
		s.st.Overflow.Inc()
	default:
		s.st.Failed.Inc()
	}
	_ = s.conn.Abort() // half a line would make the next one wrong
	s.conn = nil
}

// alive reports whether there is a connection that statsd has not closed.
func (s *tcpSink) alive() bool {
	if s.conn == nil {
		return false
	}
	select {
	case <-s.ended:
		_ = s.conn.Close() // the other side knows
		s.conn = nil
		return false
	default:
		return true
	}
}

func (s *tcpSink) connect(ctx context.Context) error {
	var cl *cluster.Cluster
	if s.clusters != nil {
		cl = s.clusters.Cluster(s.c.Cluster)
	}
	if cl == nil {
		return fmt.Errorf("%w: %q", call.ErrNoCluster, s.c.Cluster)
	}
	var at cluster.Attempt
	host, err := cl.Pick(&at)
	if err != nil {
		return err
	}
	conn, err := cl.Dial(ctx, host, &at)
	if err != nil {
		return err
	}
	ended := make(chan struct{})
	s.conn, s.ended = conn, ended
	go func() {
		defer close(ended)
		for b := make([]byte, 1); ; { // statsd has nothing to say
			if _, err := conn.Read(b); err != nil {
				return
			}
		}
	}()
	return nil
}
