package l7

import (
	"errors"
	"time"

	"github.com/mecha-mesh/mecha/proxy/codec"
	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/header"
	"github.com/mecha-mesh/mecha/proxy/meta"
	"github.com/mecha-mesh/mecha/proxy/why"
)

// Forecast tells what would be decided about a request without a body that came over such a
// connection. Nothing is sent and nothing counted, but for requests that are refused before
// the filters see them. head is copied.
func (m *Manager) Forecast(c *meta.Conn, head *header.Map) *why.Exchange {
	st := newStream(m, m.live.Load())
	st.hypothetical = true
	st.conn = &conn{m: m, down: &filter.Conn{Meta: c}}
	st.Conn, st.Session = c, st.conn.down
	st.SchemeOfHost = m.spec.SchemeOfHost
	head.CopyTo(&st.Request, true)
	st.next.set(codec.End)
	st.Meta.Start, st.Meta.Protocol = time.Now(), meta.HTTP11
	st.grpc = filter.IsGRPC(&st.Request)
	st.settle(st.forecast())
	q := why.Request{ID: "", Method: head.Value(header.Method), Host: head.Value(header.Authority), Path: head.Value(header.Path)}
	e := why.Tell(q, &st.Meta, c, st.Conn.Remote, &st.Why)
	st.chain.reset()
	return e
}

// forecast is run without effects.
func (st *stream) forecast() (err error) {
	defer st.recoverPanic(&err)
	if err = st.prepareRequest(); err != nil {
		return err
	}
	st.RefreshRoute()
	if err = st.checkUpgrade(); err != nil {
		return err
	}
	for _, h := range st.chain.requestHeaders {
		if st.Deciding = h.index; st.off&(1<<h.index) != 0 {
			st.Decide("is disabled for the route", "")
			continue
		}
		f, can := h.f.(filter.Forecaster)
		if !can {
			st.Decide("was not asked: it does not know what it would do without doing it", "")
			continue
		}
		if err = f.Forecast(&st.Stream); err != nil {
			return err
		}
	}
	st.Deciding = len(st.chain.filters) - 1
	f, can := st.chain.terminal.(filter.Forecaster)
	if !can {
		st.Decide("was not asked: it does not know what it would do without doing it", "")
		return nil
	}
	return f.Forecast(&st.Stream)
}

// settle notes how the forecast has ended.
func (st *stream) settle(err error) {
	st.Tick()
	var reply *filter.Reply
	var fe *filter.Error
	switch {
	case err == nil:
		st.Why.Note(why.Decision{By: st.Decider(), What: "would send it", At: st.Elapsed()})
	case errors.As(err, &reply):
		st.Meta.Code, st.Meta.Details, st.Meta.Flags = reply.Code, reply.Details, reply.Flags
		st.Why.Note(why.Decision{By: st.Decider(), What: "would answer", N: reply.Code, Because: reply.Details, At: st.Elapsed()})
	case errors.As(err, &fe):
		st.Meta.Code, st.Meta.Details, st.Meta.Flags = fe.Code, fe.Text, fe.Flag
		st.Why.Note(why.Decision{By: st.Decider(), What: "would end it", Because: fe.Text, At: st.Elapsed()})
	default:
		st.Why.Note(why.Decision{By: st.Decider(), What: "would end it", Because: err.Error(), At: st.Elapsed()})
	}
	st.Meta.End = st.Elapsed()
}
