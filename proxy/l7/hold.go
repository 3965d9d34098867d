package l7

import (
	"github.com/mecha-mesh/mecha/proxy/buffer"
	"github.com/mecha-mesh/mecha/proxy/filter"
)

// held is a response that a filter keeps back until it is complete.
type held struct {
	on    bool
	over  bool       // the filter has had enough of it
	at    int        // the place of the filter in its chain
	limit int        // of the body, in bytes; 0: that of the listener
	body  buffer.Buf // what has passed that filter
}

// before reports whether a filter is one of those to which nothing has been shown yet.
func (h *held) before(index int) bool { return h.on && index < h.at }

// defaultLimit is per_connection_buffer_limit_bytes of a listener that does not say.
const defaultLimit = 1 << 20

var replyResponseTooLarge = filter.Reply{Code: 500, Body: "Internal Server Error", Details: "response_payload_too_large"}

// HoldResponse implements filter.Engine.
func (st *stream) HoldResponse() *buffer.Buf {
	st.held.on = true
	return &st.held.body
}

// HoldUpTo implements filter.Engine.
func (st *stream) HoldUpTo(limit int) { st.held.limit = limit }

// ReleaseResponse implements filter.Engine.
func (st *stream) ReleaseResponse() { st.held.over = true }

// hold adds a piece of the body to what is kept back.
func (st *stream) hold(b *buffer.Buf) error {
	st.held.body.MoveAll(b)
	if st.held.body.Len() > max(st.m.bufferLimit, st.held.limit) {
		st.m.counters.RsTooLarge.Inc()
		return &replyResponseTooLarge
	}
	return nil
}

// release shows what was kept back, which is complete, to the filters that have not seen
// it, and sends it. One of them may keep it back again.
func (st *stream) release() error {
	trailers := st.ResponseTrailers.Len() > 0
	at := st.held.at
	if err := st.letGo(!trailers); err != nil {
		return err
	}
	if trailers && !st.ended {
		return st.passTrailers(at)
	}
	return nil
}

// letGo shows what was kept back to the filters that have not seen it, and sends it. end
// tells that nothing follows.
func (st *stream) letGo(end bool) error {
	var body buffer.Buf
	defer body.Release()
	body.MoveAll(&st.held.body)
	at := st.held.at
	st.held.on, st.held.over = false, false
	if err := st.passHead(at, body.Len() == 0 && end); err != nil {
		return err
	}
	if st.ended || body.Len() == 0 {
		return nil
	}
	return st.passData(at, &body, end)
}
