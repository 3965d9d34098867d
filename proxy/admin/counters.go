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
	open map[net.Conn]time.Time // connections, with when they came
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
	CxDestroy     stats.Counter       `stat:"downstream_cx_destroy" help:"Connections to admin that were closed"`
	CxLength      stats.Histogram     `stat:"downstream_cx_length_ms" help:"Length of connections to admin in milliseconds"`
	RqTotal       stats.Counter       `stat:"downstream_rq_total" help:"Requests to admin"`
	RqHTTP1       stats.Counter       `stat:"downstream_rq_http1_total" help:"HTTP/1 requests to admin"`
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
			c.open = map[net.Conn]time.Time{}
		}
		c.open[conn] = time.Now()
		c.mu.Unlock()
		c.listener.Total.Inc()
		c.listener.Active.Inc()
		c.manager.CxTotal.Inc()
		c.manager.CxActive.Inc()
		c.manager.CxHTTP1Total.Inc()
		c.manager.CxHTTP1Active.Inc()
	case http.StateClosed, http.StateHijacked:
		c.mu.Lock()
		begun, ok := c.open[conn]
		delete(c.open, conn)
		c.mu.Unlock()
		if !ok {
			return
		}
		took := uint64(time.Since(begun).Milliseconds())
		c.listener.Destroy.Inc()
		c.listener.Active.Dec()
		c.listener.Length.Record(took)
		c.manager.CxDestroy.Inc()
		c.manager.CxActive.Dec()
		c.manager.CxHTTP1Active.Dec()
		c.manager.CxLength.Record(took)
	}
}

func (c *counters) begin() {
	c.manager.RqTotal.Inc()
	c.manager.RqHTTP1.Inc()
	c.manager.RqActive.Inc()
}

func (c *counters) end(code int, took time.Duration) {
	c.manager.RqActive.Dec()
	c.manager.RqTime.Record(uint64(took.Milliseconds()))
	c.manager.Responses.Count(code)
	c.here.Responses.Count(code)
}
