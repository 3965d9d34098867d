// Package call sends requests of the proxy's own to clusters: what a filter asks an
// external service. They go through the cluster's pools and within its circuit breakers,
// are counted with the cluster like those of clients, and end with whoever waits for them.
//
// What is asked, and what an answer means, is for the filters.
package call

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"

	"github.com/mecha-mesh/mecha/proxy/buffer"
	"github.com/mecha-mesh/mecha/proxy/cluster"
	"github.com/mecha-mesh/mecha/proxy/codec"
	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/header"
	"github.com/mecha-mesh/mecha/proxy/stats"
)

// longest bounds a call that has no time limit.
const longest = 5 * time.Minute

// DefaultLimit is how much of a response body is kept where nobody says: what Envoy keeps
// for a listener without per_connection_buffer_limit_bytes.
const DefaultLimit = 1 << 20

// The errors of calls. Others are wrapped causes: a *cluster.ConnectError,
// cluster.ErrNoHealthyHost, cluster.ErrOverflow, or what reading and writing said.
var (
	ErrNoCluster = errors.New("call: there is no such cluster")
	ErrTimeout   = errors.New("call: no answer in time")
	ErrTooLarge  = errors.New("call: the answer is too large")
	errUpgrade   = errors.New("call: the host has switched protocols")
)

// Client sends calls. It is made once, in a filter's New, and used by all streams.
type Client struct {
	clusters cluster.Source
	address  func() netip.Addr
}

// NewClient makes a client. clusters may be nil, which has none.
func NewClient(clusters cluster.Source) *Client {
	return &Client{clusters, sync.OnceValue(OwnAddress)}
}

// Request is what is asked. Its maps and the body are the caller's until Do returns.
type Request struct {
	Cluster  string
	Header   header.Map // with :method, :path and :authority
	Body     buffer.Buf // consumed
	Trailers header.Map
	Timeout  time.Duration // 0 is none
	Limit    int           // most bytes of the response body; 0: DefaultLimit
	// Plain leaves out the fields that tell the host that a proxy asks, and for how long it
	// waits: x-envoy-internal, x-envoy-expected-rq-timeout-ms, and x-forwarded-for, which
	// Anonymous leaves out alone.
	Plain, Anonymous bool
}

// Response is an answer, in memory of its own.
type Response struct {
	Header   header.Map
	Body     []byte
	Trailers header.Map
}

// Code is the status code.
func (r *Response) Code() int { return r.Header.StatusCode() }

// Waiter is who waits for a call: the engine of a stream or of nobody. filter.Engine is
// one.
type Waiter interface {
	Context() context.Context
	Sleep(d time.Duration) error
	Await(up codec.ClientStream, m *header.Map, until time.Time) (codec.Next, error)
}

// Do asks, and waits for the whole answer into a, which is empty. w is the engine of the
// stream that waits, whose end ends the call. Ended tells whether an error is that end.
func (c *Client) Do(w Waiter, q *Request, a *Response) error {
	defer q.Body.Release()
	cl := c.find(q.Cluster)
	if cl == nil {
		return fmt.Errorf("%w: %q", ErrNoCluster, q.Cluster)
	}
	if !q.Plain {
		c.announce(q)
	}
	begun := time.Now()
	d := q.Timeout
	if d <= 0 || d > longest {
		d = longest
	}
	err := c.exchange(w, cl, q, a, begun.Add(d))
	count(cl, a, err, begun)
	return err
}

func (c *Client) find(name string) *cluster.Cluster {
	if c.clusters == nil {
		return nil
	}
	return c.clusters.Cluster(name)
}

// announce says that a proxy asks, and for how long it waits.
func (c *Client) announce(q *Request) {
	m := &q.Header
	m.SetID(header.XEnvoyInternal, "true")
	if q.Timeout > 0 {
		m.SetInt(header.XEnvoyExpectedRqTimeoutMs, q.Timeout.Milliseconds())
	}
	if q.Anonymous {
		return
	}
	ip := c.address()
	m.SetID(header.XForwardedFor, m.Format(func(dst []byte) []byte {
		if old := m.Value(header.XForwardedFor); old != "" {
			dst = append(append(dst, old...), ',')
		}
		return ip.AppendTo(dst)
	}))
}

// count counts a call with its cluster as the router counts requests from inside.
func count(cl *cluster.Cluster, a *Response, err error, begun time.Time) {
	if Ended(err) != nil {
		return
	}
	code := a.Code()
	st := cl.Stats()
	if err != nil {
		code = 503
		if errors.Is(err, ErrTimeout) {
			code = 504
			st.UpstreamRqTimeout.Inc()
		}
	}
	for _, c := range []*stats.CodeCounters{&st.UpstreamRq, &st.InternalRq} {
		c.Count(code)
	}
	if err == nil {
		took := uint64(time.Since(begun).Milliseconds())
		st.UpstreamRqTime.Record(took)
		st.InternalRqTime.Record(took)
	}
}

// exchange makes one attempt, and another one on a new connection if the first was lost
// on one that the host had closed meanwhile.
func (c *Client) exchange(w Waiter, cl *cluster.Cluster, q *Request, a *Response, until time.Time) error {
	ticket, err := cl.Admit(cluster.Default)
	if err != nil {
		return err
	}
	defer ticket.Done()
	at := &cluster.Attempt{Headers: &q.Header}
	for {
		var body buffer.Buf
		q.Body.Share(&body, q.Body.Len())
		again, err := attempt(w, cl, at, q, &body, a, until)
		body.Release()
		if err == nil || at.Fresh || !again {
			return err
		}
		at.Fresh = true
	}
}

// attempt makes one attempt. again tells that it failed on a connection that had been used
// before, and that the host has said nothing, so that it may not even have seen it.
func attempt(w Waiter, cl *cluster.Cluster, at *cluster.Attempt, q *Request, body *buffer.Buf, a *Response, until time.Time) (again bool, err error) {
	x, err := open(w, cl, at, until)
	if err != nil {
		return false, err
	}
	reused := x.conn.Used()
	defer func() {
		read, _ := x.up.WireBytes()
		again = reused && read.Header == 0 && !errors.Is(err, ErrTimeout) && Ended(err) == nil
		x.report(a, err)
		x.close(err)
	}()
	if err := x.up.SetReadDeadline(until); err != nil {
		return false, err
	}
	if !q.Header.Has(header.Scheme) {
		q.Header.AddID(header.Scheme, x.scheme())
	}
	if err := WriteWhole(x.up, &q.Header, body, &q.Trailers, until); err != nil {
		return false, x.explain(err, until)
	}
	if err := x.read(a, q.limit(), until); err != nil {
		return false, x.explain(err, until)
	}
	return false, nil
}

func (q *Request) limit() int {
	if q.Limit > 0 {
		return q.Limit
	}
	return DefaultLimit
}

// Ended returns what a hook has to return where the stream that waited for a call is
// over; nil where it goes on and the call has failed, or not.
func Ended(err error) error {
	var e *ended
	if errors.As(err, &e) {
		return e.error
	}
	return nil
}

// ended is the end of the stream that waits.
type ended struct{ error }

func (e *ended) Unwrap() error { return e.error }

// isTimeout recognises what waiting for too long looks like.
func isTimeout(err error) bool {
	return errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, context.DeadlineExceeded)
}

// hookError reports whether an error of Await is what a hook returns, and not about the
// host: the client has gone, or the stream was idle for too long.
func hookError(err error) bool {
	var reply *filter.Reply
	var fe *filter.Error
	return errors.As(err, &reply) || errors.As(err, &fe) && fe.Source != filter.Upstream
}

// OwnAddress is the address that a host takes for its client's: the first one of the
// machine that others can reach.
func OwnAddress() netip.Addr {
	all, err := net.InterfaceAddrs()
	if err == nil {
		for _, a := range all {
			if n, ok := a.(*net.IPNet); ok && n.IP.To4() != nil && n.IP.IsGlobalUnicast() {
				ip, _ := netip.AddrFromSlice(n.IP.To4()) // four bytes
				return ip
			}
		}
	}
	return netip.AddrFrom4([4]byte{127, 0, 0, 1})
}
