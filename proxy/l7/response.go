package l7

import (
	"sync/atomic"
	"time"

	"github.com/mecha-mesh/mecha/proxy/buffer"
	"github.com/mecha-mesh/mecha/proxy/codec"
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
	for _, h := range st.chain.responseHeaders {
		if st.off&(1<<h.index) != 0 {
			continue
		}
		if err := h.f.OnResponseHeaders(&st.Stream, end); err != nil {
			return err
		}
	}
	if len(st.chain.responseHeaders) > 0 {
		st.Tick()
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
	st.limitConnection()
}

// requestUnread reports whether the client is still sending.
func (st *stream) requestUnread() bool { return st.next.get() != codec.End && st.upgrade == "" }

// limitConnection makes this the last exchange of a connection that has had its share.
func (st *stream) limitConnection() {
	c, spec := st.conn, st.m.spec
	if spec.MaxRequests > 0 && c.served.Load()+1 >= spec.MaxRequests {
		st.m.counters.CxMaxRequests.Inc()
		c.version.last()
	}
	if !c.age.old.IsZero() && !time.Now().Before(c.age.old) {
		c.tooOld()
		c.version.last()
	}
}

// SendData implements filter.Engine.
func (st *stream) SendData(b *buffer.Buf, end bool) error {
	for _, h := range st.chain.responseData {
		if st.off&(1<<h.index) != 0 {
			continue
		}
		if err := h.f.OnResponseData(&st.Stream, b, end); err != nil {
			b.Release()
			return err
		}
	}
	st.Meta.BytesSent += int64(b.Len())
	if err := st.down.WriteData(b, end); err != nil {
		return st.unsent(err)
	}
	if end {
		st.ended = true
		st.Meta.ResponseEnd = st.Elapsed()
	}
	return nil
}

// SendTrailers implements filter.Engine.
func (st *stream) SendTrailers() error {
	for _, h := range st.chain.responseTrailers {
		if st.off&(1<<h.index) != 0 {
			continue
		}
		if err := h.f.OnResponseTrailers(&st.Stream); err != nil {
			return err
		}
	}
	if err := st.down.WriteTrailers(&st.ResponseTrailers); err != nil {
		return st.unsent(err)
	}
	st.ended = true
	st.Meta.ResponseEnd = st.Elapsed()
	return nil
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
