package l7

import (
	"time"

	"github.com/mecha-mesh/mecha/proxy/accesslog"
)

// LogTimes says when access logs get a line besides the one at the end of a stream
// (access_log_options).
type LogTimes struct {
	Start  bool          // when the request has come
	Tunnel bool          // when an upgrade or a CONNECT has succeeded
	Every  time.Duration // while the stream waits for upstream; 0 is never
}

// log writes a line about the stream as it is.
func (st *stream) log(t accesslog.Type) {
	if st.m.logs == nil {
		return
	}
	e := st.LogEntry()
	e.Type = t
	st.m.logs.Log(e)
}

// logWhile makes the stream write lines from time to time as long as it lives.
func (st *stream) logWhile() {
	st.logAt = time.Time{}
	if every := st.m.spec.LogTimes.Every; every > 0 && st.m.logs != nil {
		st.logAt = st.Meta.Start.Add(every)
	}
}

// logInTime writes such a line, if it is time. The goroutine of the response calls it
// whenever it begins to wait or has waited, without the monitor.
func (st *stream) logInTime() {
	if st.logAt.IsZero() || st.Now().Before(st.logAt) {
		return
	}
	st.logAt = st.Now().Add(st.m.spec.LogTimes.Every)
	st.monitor.Lock() // the request may be on its way on another goroutine
	defer st.monitor.Unlock()
	st.log(accesslog.DownstreamPeriodic)
}

// wake is until when a read may wait before the stream has something else to do.
func (st *stream) wake(w *watch) time.Time {
	d := w.next(st.Now())
	if !st.logAt.IsZero() && st.logAt.Before(d) {
		return st.logAt
	}
	return d
}
