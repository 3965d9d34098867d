package router

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"sync/atomic"
	"time"

	"github.com/mecha-mesh/mecha/proxy/buffer"
	"github.com/mecha-mesh/mecha/proxy/cluster"
	"github.com/mecha-mesh/mecha/proxy/cluster/outlier"
	"github.com/mecha-mesh/mecha/proxy/codec"
	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/filter/call"
	"github.com/mecha-mesh/mecha/proxy/header"
	"github.com/mecha-mesh/mecha/proxy/stats"
	"github.com/mecha-mesh/mecha/proxy/transport"
)

const (
	// maxMirrors is how many copies of requests one chain may have under way: a mirror
	// that is slower than what it mirrors must not pile them up.
	maxMirrors = 1024
	// longestMirror bounds a copy of a request that has no time limit.
	longestMirror = 5 * time.Minute
)

// mirrors are the copies of a stream's request that wait for its end.
type mirrors struct{ waiting []*shadow }

// shadow is a copy of a request on its way to a mirror. It lives on a goroutine of its
// own; nobody waits for it.
type shadow struct {
	cluster  *cluster.Cluster
	request  header.Map // in its own memory
	trailers header.Map
	body     buffer.Buf
	until    time.Duration // from the moment that it leaves
}

// mirror copies the request head for each mirror that the request is to go to.
func (f *Filter) mirror(s *filter.Stream) {
	if s.Request.Has(header.Upgrade) || s.Request.Value(header.Method) == "CONNECT" {
		return
	}
	for _, p := range f.action.Mirrors {
		if !p.Share.On(f.sh.runtime).Match(s.Random()) {
			continue
		}
		c := f.sh.clusters.Cluster(p.ClusterName(&s.Request))
		if c == nil {
			continue
		}
		if f.sh.shadows.Add(1) > maxMirrors {
			f.sh.shadows.Add(-1)
			f.sh.counters.MirrorOverflow.Inc()
			continue
		}
		sd := &shadow{cluster: c, until: f.timing.global}
		if sd.until <= 0 || sd.until > longestMirror {
			sd.until = longestMirror
		}
		s.Request.CopyTo(&sd.request, true)
		s.Tracing.Inject(s.Span, &sd.request)
		p.Finalize(&sd.request, s)
		sd.announce(f.sh.address())
		f.shadows.waiting = append(f.shadows.waiting, sd)
	}
	if len(f.shadows.waiting) > 0 && s.Engine.RequestBody() == codec.End {
		f.shadows.send(f.sh, nil, nil)
	}
}

// announce says that a proxy is the client of a mirror.
func (sd *shadow) announce(ip netip.Addr) {
	m := &sd.request
	m.SetID(header.XEnvoyInternal, "true")
	m.SetID(header.XForwardedFor, m.Format(func(dst []byte) []byte {
		if old := m.Value(header.XForwardedFor); old != "" {
			dst = append(append(dst, old...), ',')
		}
		return ip.AppendTo(dst)
	}))
}

// send lets the copies go, once the request has come to its end. body and trailers are
// the request's, lent for the call; a body that was not kept cannot be copied.
func (ms *mirrors) send(sh *shared, body *filter.Replay, trailers *header.Map) {
	for _, sd := range ms.waiting {
		if body != nil && body.Overflow {
			sh.shadows.Add(-1)
			continue
		}
		if body != nil {
			body.Buf.Share(&sd.body, body.Buf.Len())
			trailers.CopyTo(&sd.trailers, true)
		}
		go sd.run(&sh.shadows)
	}
	ms.drop(nil)
}

// drop forgets what waits; sh is nil for copies that are on their way.
func (ms *mirrors) drop(sh *shared) {
	if sh != nil {
		sh.shadows.Add(-int64(len(ms.waiting)))
	}
	clear(ms.waiting)
	ms.waiting = ms.waiting[:0]
}

func (sd *shadow) run(n *atomic.Int64) {
	defer n.Add(-1)
	defer sd.body.Release()
	begun := time.Now()
	code, err := sd.exchange(begun.Add(sd.until))
	if err != nil {
		code = 503
		if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, os.ErrDeadlineExceeded) {
			code = 504
		}
	}
	st := sd.cluster.Stats()
	for _, c := range []*stats.CodeCounters{&st.UpstreamRq, &st.InternalRq} {
		c.Count(code)
	}
	if err == nil {
		st.UpstreamRqTime.Record(uint64(time.Since(begun).Milliseconds()))
	}
}

// exchange sends the copy and throws the response away.
func (sd *shadow) exchange(until time.Time) (code int, err error) {
	c := sd.cluster
	ticket, err := c.Admit(cluster.Default)
	if err != nil {
		return 0, err
	}
	defer ticket.Done()
	at := &cluster.Attempt{Headers: &sd.request, Options: &transport.Options{}}
	autoNames(at.Options, &c.Spec().HTTP.Auto, &sd.request)
	host, err := c.Pick(at)
	if err != nil {
		return 0, err
	}
	conn, err := c.Acquire(context.Background(), host, at, until)
	if err != nil {
		reportUnconnected(host, err)
		return 0, err
	}
	up, err := conn.Open(context.Background())
	if err != nil {
		c.Release(conn, false)
		reportBroken(host)
		return 0, err
	}
	reportConnected(host)
	defer func() { sd.report(host, code, err) }()
	defer func() {
		read, written := up.WireBytes()
		conn.CountBytes(read.Header+read.Body, written.Header+written.Body)
		if reusable := up.Release(); reusable || err == nil {
			c.Release(conn, reusable)
		} else {
			c.Abandon(conn)
		}
	}()
	if err := up.SetReadDeadline(until); err != nil {
		return 0, err
	}
	if err := call.WriteWhole(up, &sd.request, &sd.body, &sd.trailers, until); err != nil {
		return 0, err
	}
	return discard(up)
}

// report tells outlier detection what became of the exchange.
func (sd *shadow) report(h *cluster.Host, code int, err error) {
	switch o := h.Outlier(); {
	case code >= 200:
		o.Code(code, false)
	case errors.Is(err, os.ErrDeadlineExceeded):
		o.Put(outlier.TimedOut, 504)
	case err != nil:
		reportBroken(h)
	}
}

// discard reads a response to its end and returns its code.
func discard(up codec.ClientStream) (code int, err error) {
	var m header.Map
	next := codec.Data
	for code < 200 {
		m.Reset()
		if next, err = up.ReadHeaders(&m); err != nil {
			return 0, err
		}
		if code = m.StatusCode(); code == 101 {
			return code, errNoHead
		}
	}
	var b buffer.Buf
	for next == codec.Data {
		next, err = up.ReadData(&b)
		b.Release()
		if err != nil {
			return code, err
		}
	}
	if next == codec.Trailers {
		m.Reset()
		err = up.ReadTrailers(&m)
	}
	return code, err
}
