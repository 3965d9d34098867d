package admin

import (
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/mecha-mesh/mecha/proxy/stats"
)

// counters are the statistics of the admin server itself: Envoy's is a listener named
// admin with a connection manager of that prefix.
type counters struct {
	listener listenerCounters
	manager  managerCounters
	here     responseCounters

	mu   sync.Mutex
	open map[net.Conn]*openConn
}

// openConn is a connection to admin.
type openConn struct {
	begun  time.Time
	active *stats.Gauge // of its version of HTTP; nil before the first request
}

// listenerCounters are listener.admin.
type listenerCounters struct {
	Overflow       stats.Never `stat:"downstream_cx_overflow" help:"0: the connections of admin are not limited."`
	GlobalOverflow stats.Never `stat:"downstream_global_cx_overflow" help:"0: the connections of admin are not limited."`
	NoMatch        stats.Never `stat:"no_filter_chain_match" help:"0: admin has no filter chains."`

	Total   stats.Counter   `stat:"downstream_cx_total" help:"Connections to admin"`
	Active  stats.Gauge     `stat:"downstream_cx_active" help:"Connections to admin that are open"`
	Destroy stats.Counter   `stat:"downstream_cx_destroy" help:"Connections to admin that were closed"`
	Length  stats.Histogram `stat:"downstream_cx_length_ms" help:"Length of connections to admin in milliseconds"`
}

// managerCounters are http.admin.
type managerCounters struct {
	CxTotal       stats.Counter       `stat:"downstream_cx_total" help:"Connections to admin"`
	CxActive      stats.Gauge         `stat:"downstream_cx_active" help:"Connections to admin that are open"`
	CxHTTP1Total  stats.Counter       `stat:"downstream_cx_http1_total" help:"HTTP/1 connections to admin"`
	CxHTTP1Active stats.Gauge         `stat:"downstream_cx_http1_active" help:"HTTP/1 connections to admin that are open"`
	CxHTTP2Total  stats.Counter       `stat:"downstream_cx_http2_total" help:"HTTP/2 connections to admin"`
	CxHTTP2Active stats.Gauge         `stat:"downstream_cx_http2_active" help:"HTTP/2 connections to admin that are open"`
	CxDestroy     stats.Counter       `stat:"downstream_cx_destroy" help:"Connections to admin that were closed"`
	CxLength      stats.Histogram     `stat:"downstream_cx_length_ms" help:"Length of connections to admin in milliseconds"`
	RqTotal       stats.Counter       `stat:"downstream_rq_total" help:"Requests to admin"`
	RqHTTP1       stats.Counter       `stat:"downstream_rq_http1_total" help:"HTTP/1 requests to admin"`
	RqHTTP2       stats.Counter       `stat:"downstream_rq_http2_total" help:"HTTP/2 requests to admin"`
	RqActive      stats.Gauge         `stat:"downstream_rq_active" help:"Requests to admin under way"`
	Responses     stats.ClassCounters `stat:"downstream_rq" help:"Answers of admin: _completed is all of them, _1xx to _5xx those of a class"`
	RqTime        stats.Histogram     `stat:"downstream_rq_time" help:"Duration of requests to admin in milliseconds"`
}

// responseCounters are listener.admin.http.admin.
type responseCounters struct {
	Responses stats.ClassCounters `stat:"downstream_rq" help:"Answers of admin, at its listener"`
}

func (c *counters) bind(st *stats.Store) {
	const label = "envoy_http_conn_manager_prefix"
	at := st.Scope("listener").Child("admin")
	at.Bind(&c.listener)
	at.Child("http").Tag(label, "admin").Bind(&c.here)
	st.Scope("http").Tag(label, "admin").Bind(&c.manager)
}

// connState counts connections (http.Server.ConnState).
func (c *counters) connState(conn net.Conn, s http.ConnState) {
	switch s {
	case http.StateNew:
		c.mu.Lock()
		if c.open == nil {
			c.open = map[net.Conn]*openConn{}
		}
		c.open[conn] = &openConn{begun: time.Now()}
		c.mu.Unlock()
		c.listener.Total.Inc()
		c.listener.Active.Inc()
		c.manager.CxTotal.Inc()
		c.manager.CxActive.Inc()
	case http.StateClosed, http.StateHijacked:
		c.mu.Lock()
		of, ok := c.open[conn]
		delete(c.open, conn)
		c.mu.Unlock()
		if !ok {
			return
		}
		took := uint64(time.Since(of.begun).Milliseconds())
		c.listener.Destroy.Inc()
		c.listener.Active.Dec()
		c.listener.Length.Record(took)
		c.manager.CxDestroy.Inc()
		c.manager.CxActive.Dec()
		if of.active != nil {
			of.active.Dec()
		}
		c.manager.CxLength.Record(took)
	}
}

// begin counts a request, and its connection under the version that it speaks if that has
// not been known.
func (c *counters) begin(r *http.Request) {
	m := &c.manager
	total, active, requests := &m.CxHTTP1Total, &m.CxHTTP1Active, &m.RqHTTP1
	if r.ProtoMajor == 2 {
		total, active, requests = &m.CxHTTP2Total, &m.CxHTTP2Active, &m.RqHTTP2
	}
	if conn, ok := r.Context().Value(connKey{}).(net.Conn); ok {
		c.mu.Lock()
		if of := c.open[conn]; of != nil && of.active == nil {
			of.active = active
			active.Inc()
			total.Inc()
		}
		c.mu.Unlock()
	}
	requests.Inc()
	m.RqTotal.Inc()
	c.manager.RqActive.Inc()
}

func (c *counters) end(code int, took time.Duration) {
	c.manager.RqActive.Dec()
	c.manager.RqTime.Record(uint64(took.Milliseconds()))
	c.manager.Responses.Count(code)
	c.here.Responses.Count(code)
}
