package l7

import (
	"sync/atomic"
	"time"

	"github.com/mecha-mesh/mecha/proxy/accesslog"
	"github.com/mecha-mesh/mecha/proxy/buffer"
	"github.com/mecha-mesh/mecha/proxy/codec"
	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/header"
)

// SendInformational implements filter.Engine.
func (st *stream) SendInformational(m *header.Map) error {
	if st.started {
		return nil
	}
	if m.Value(header.Status) == "100" && !st.m.spec.Proxy100Continue {
		return nil // the client was told already
	}
	if err := st.down.WriteHeaders(m, false); err != nil {
		return st.unsent(err)
	}
	if err := st.down.Flush(); err != nil {
		return st.unsent(err)
	}
	return nil
}

// SendHeaders implements filter.Engine.
func (st *stream) SendHeaders(end bool) error {
	st.Meta.Code = st.Response.StatusCode() // for the hooks, which may change it
	return st.passHead(maxFilters, end)
}

// passHead shows the response head to the filters before place below, and sends it unless
// one of them keeps it back.
func (st *stream) passHead(below int, end bool) error {
	if len(st.chain.responseHeaders) > 0 && !st.direct {
		if err := st.showHead(below, end); err != nil {
			return err
		}
		if st.held.on {
			if end {
				return st.release()
			}
			return nil
		}
	}
	st.finishResponse()
	st.started = true
	st.Meta.Code = st.Response.StatusCode()
	st.Meta.DownstreamStart = st.Elapsed()
	st.m.countResponse(st.Meta.Code)
	if err := st.down.WriteHeaders(&st.Response, end); err != nil {
		return st.unsent(err)
	}
	if end {
		st.ended = true
		st.Meta.ResponseEnd = st.Meta.DownstreamStart
	}
	if st.down.Upgraded() {
		st.m.counters.CxUpgrades.Inc()
		st.next.set(codec.Data) // whatever the client sends from now on
		if st.m.spec.LogTimes.Tunnel {
			st.log(accesslog.DownstreamTunnelSuccessfullyEstablished)
		}
	}
	return nil
}

// showHead runs the hooks on the response head.
func (st *stream) showHead(below int, end bool) error {
	st.monitor.Lock()
	defer st.monitor.Unlock()
	st.answering = true
	last := st.Elapsed()
	for _, h := range st.chain.responseHeaders {
		if h.index >= below || st.off&(1<<h.index) != 0 {
			continue
		}
		st.Deciding = h.index
		err := h.f.OnResponseHeaders(&st.Stream, end)
		now := st.Tick()
		st.Why.Answered[h.index] += now - last
		if last = now; err != nil {
			return err
		}
		if st.held.on {
			st.held.at = h.index
			break
		}
	}
	return nil
}

// finishResponse puts into the response head what the connection manager owes it.
func (st *stream) finishResponse() {
	m, spec := &st.Response, st.m.spec
	if st.requestUnread() {
		// The rest of the request will not be waited for.
		st.m.counters.RqEarly.Inc()
		st.conn.version.spoil()
	}
	if !m.Has(header.Date) {
		m.AddID(header.Date, httpDate(st.Now()))
	}
	if spec.ServerHeader == Overwrite || spec.ServerHeader == AppendIfAbsent && !m.Has(header.Server) {
		m.SetID(header.Server, spec.ServerName)
	}
	if spec.Via != "" {
		if old := m.Value(header.Via); old != "" {
			m.SetID(header.Via, m.Concat(old, ", ", spec.Via))
		} else {
			m.SetID(header.Via, spec.Via)
		}
	}
	if spec.RequestIDInResponse {
		if id := st.Request.Value(header.XRequestId); id != "" {
			m.SetID(header.XRequestId, id)
		}
	}
	st.setProxyStatus()
	st.decorateResponse()
	st.conn.version.limit()
}

// requestUnread reports whether the client is still sending.
func (st *stream) requestUnread() bool { return st.next.get() != codec.End && st.upgrade == "" }

// SendData implements filter.Engine.
func (st *stream) SendData(b *buffer.Buf, end bool) error { return st.passData(maxFilters, b, end) }

// passData shows a piece of the response body to the filters before place below, and
// sends it, or adds it to what is kept back.
func (st *stream) passData(below int, b *buffer.Buf, end bool) error {
	trailers, err := -1, error(nil) // trailers is the place of the filter that has added some
	if len(st.chain.responseData) > 0 && !st.direct {
		if trailers, err = st.showResponse(below, b, end); err != nil {
			b.Release()
			return err
		}
	}
	end = end && trailers < 0
	if st.held.on {
		if err := st.hold(b); err != nil {
			return err
		}
		if end {
			return st.release()
		}
		if st.held.over {
			if err := st.letGo(false); err != nil {
				return err
			}
		}
	} else {
		if st.outPace.on() {
			if err := st.sendPaced(b); err != nil {
				b.Release()
				return err
			}
			if end || trailers >= 0 {
				trailers = st.endPaced(trailers)
				end = end && trailers < 0
			}
		}
		st.Meta.BytesSent += int64(b.Len())
		if err := st.down.WriteData(b, end); err != nil {
			return st.unsent(err)
		}
	}
	switch {
	case end:
		st.ended = true
		st.Meta.ResponseEnd = st.Elapsed()
	case trailers >= 0:
		return st.passTrailers(trailers)
	}
	return nil
}

// showResponse runs the hooks on a piece of the response body. Where one of them has put
// trailers after the end it returns its place, otherwise -1.
func (st *stream) showResponse(below int, b *buffer.Buf, end bool) (trailers int, err error) {
	st.monitor.Lock()
	defer st.monitor.Unlock()
	trailers = -1
	for _, h := range st.chain.responseData {
		if h.index >= below || st.held.before(h.index) || st.off&(1<<h.index) != 0 {
			continue
		}
		st.Deciding = h.index
		if err := h.f.OnResponseData(&st.Stream, b, end); err != nil {
			st.refused(h.index, "refused the response body")
			return -1, err
		}
		if end && st.ResponseTrailers.Len() > 0 {
			trailers, end = h.index, false
		}
	}
	return trailers, nil
}

// SendTrailers implements filter.Engine.
func (st *stream) SendTrailers() error { return st.passTrailers(maxFilters) }

// passTrailers shows the response trailers to the filters before place below, and sends
// them with what was kept back.
func (st *stream) passTrailers(below int) error {
	if len(st.chain.responseTrailers) > 0 {
		if err := st.showResponseTrailers(below); err != nil {
			return err
		}
	}
	if st.held.on {
		return st.release()
	}
	if err := st.down.WriteTrailers(&st.ResponseTrailers); err != nil {
		return st.unsent(err)
	}
	st.ended = true
	st.Meta.ResponseEnd = st.Elapsed()
	return nil
}

// showResponseTrailers runs the hooks on the response trailers.
func (st *stream) showResponseTrailers(below int) error {
	for _, h := range st.chain.responseTrailers {
		if h.index >= below || st.held.before(h.index) || st.off&(1<<h.index) != 0 {
			continue
		}
		st.Deciding = h.index
		if err := st.showTrailersTo(h.f); err != nil {
			st.refused(h.index, "refused the response trailers")
			return err
		}
		if st.last.Len() == 0 {
			continue
		}
		if err := st.passData(h.index, &st.last, false); err != nil {
			return err
		}
	}
	return nil
}

// showTrailersTo shows the response trailers to one filter. What it still has to say of
// the body is in st.last then.
func (st *stream) showTrailersTo(f filter.ResponseTrailers) error {
	st.monitor.Lock()
	defer st.monitor.Unlock()
	err := f.OnResponseTrailers(&st.Stream)
	st.last.MoveAll(&st.tail)
	return err
}

// dateLine is the value of "date" for one second.
type dateLine struct {
	second int64
	text   string
}

// now caches the formatted time of the current second: formatting it for each
// response costs more than routing it.
var now atomic.Pointer[dateLine]

func httpDate(t time.Time) string {
	d := now.Load()
	if d == nil || d.second != t.Unix() {
		d = &dateLine{t.Unix(), t.UTC().Format("Mon, 02 Jan 2006 15:04:05 GMT")}
		now.Store(d)
	}
	return d.text
}
