package l7

import (
	"time"

	"github.com/mecha-mesh/mecha/proxy/header"
	"github.com/mecha-mesh/mecha/proxy/why"
)

// remember gives the exchange, which is over, to the journal.
func (st *stream) remember() {
	j := st.m.journal
	if j == nil {
		return
	}
	m := &st.Request
	q := why.Request{ID: m.Value(header.XRequestId), Method: m.Value(header.Method), Host: m.Value(header.Authority), Path: m.Value(header.Path)}
	j.Keep(q, &st.Meta, st.Accepted(), st.Conn.Remote, &st.Why)
}

// refused notes that the hook of a filter has ended the stream over something that may be on
// its way on another goroutine than the response.
func (st *stream) refused(index int, what string) {
	st.Why.Note(why.Decision{By: st.Why.Filters[index], What: what, At: time.Since(st.Meta.Start)})
}
