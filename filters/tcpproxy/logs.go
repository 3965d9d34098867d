package tcpproxy

import (
	"sync"
	"time"

	"github.com/mecha-mesh/mecha/proxy/accesslog"
	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/stats"
)

// LogTimes says when access logs are written besides the end (access_log_options).
type LogTimes struct {
	Start     bool          // when the client has connected
	Connected bool          // when the upstream connection is there
	Every     time.Duration // as long as the connection lives; 0 is never
}

// liveLog writes access logs while a connection lives. It counts its bytes apart, so
// that a line can tell them, and adds them to those of the filter from time to time.
type liveLog struct {
	mu     sync.Mutex
	s      *session
	c      *filter.Conn // nil when it is over
	timer  *time.Timer
	rx, tx stats.Counter
	given  [2]uint64 // of rx and tx, to the filter's counters
}

func (l *liveLog) reset() {
	l.s, l.c, l.timer, l.rx, l.tx, l.given = nil, nil, nil, stats.Counter{}, stats.Counter{}, [2]uint64{}
}

// begin counts the connection's bytes and begins to log.
func (s *session) begin(c *filter.Conn) {
	sock := c.Engine.Socket()
	if s.c.LogTimes.Start {
		s.logNow(c, accesslog.DownstreamStart)
	}
	if s.c.LogTimes.Every <= 0 || s.logs == nil {
		sock.CountInto(&s.s.Rx, &s.s.Tx)
		return
	}
	sock.CountInto(&s.log.rx, &s.log.tx)
	s.log.s, s.log.c = s, c
	s.log.timer = time.AfterFunc(s.c.LogTimes.Every, s.log.tick)
}

func (s *session) logNow(c *filter.Conn, t accesslog.Type) {
	if s.logs == nil {
		return
	}
	e := c.LogEntry()
	e.Type = t
	s.logs.Log(e)
}

// logConnected writes what there is to say when the upstream connection is there.
func (s *session) logConnected(c *filter.Conn) {
	if s.c.LogTimes.Connected {
		s.log.mu.Lock()
		defer s.log.mu.Unlock()
		s.logNow(c, accesslog.TCPUpstreamConnected)
	}
}

// tick writes a line about the connection as it is.
func (l *liveLog) tick() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.c == nil {
		return
	}
	l.give()
	e := l.c.LogEntry()
	now := *e.Stream
	now.BytesReceived, now.BytesSent = int64(l.given[0]), int64(l.given[1])
	e.Stream, e.Type = &now, accesslog.TCPPeriodic
	l.s.logs.Log(e)
	l.timer.Reset(l.s.c.LogTimes.Every)
}

// give adds what was counted since the last time to the filter's counters.
func (l *liveLog) give() {
	rx, tx := l.rx.Value(), l.tx.Value()
	l.s.s.Rx.Add(rx - l.given[0])
	l.s.s.Tx.Add(tx - l.given[1])
	l.given = [2]uint64{rx, tx}
}

// end stops it. It may be called again.
func (l *liveLog) end() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.c == nil {
		return
	}
	l.timer.Stop()
	l.give()
	l.c = nil
}
