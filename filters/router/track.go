package router

import (
	"time"

	"github.com/mecha-mesh/mecha/proxy/cluster"
	"github.com/mecha-mesh/mecha/proxy/codec"
	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/header"
)

// trial is what track_cluster_stats wants to know of an attempt.
type trial struct {
	begun time.Time
	head  size // of the response, none before it has come
	cut   bool // the time of the whole request was over
}

// size is that of a head.
type size struct{ bytes, fields int }

func sizeOf(m *header.Map) size { return size{m.Bytes(), m.Len()} }

// track records an attempt that is over; its stream has not been released yet.
func (f *Filter) track(s *filter.Stream) {
	if st := f.cluster.Sizes(); st != nil {
		recordSizes(st, sizeOf(&s.Request), f.trial.head, f.up)
	}
	// The time of an attempt that the end of the whole request has cut short says nothing.
	if b := f.cluster.Budgets(); b != nil && !f.trial.cut {
		b.PerTry.Record(percent(time.Since(f.trial.begun), f.timing.perTry))
	}
}

// beginTrial notes when an attempt begins, if somebody wants to know.
func (f *Filter) beginTrial() {
	f.trial = trial{}
	if f.cluster.Budgets() != nil {
		f.trial.begun = time.Now()
	}
}

// track is Filter.track for one of several attempts, which has not won.
func (t *try) track() {
	if st := t.cluster.Sizes(); st != nil {
		recordSizes(st, sizeOf(&t.request), sizeOf(&t.response), t.up)
	}
	if b := t.cluster.Budgets(); b != nil {
		b.PerTry.Record(percent(time.Since(t.begun), t.limit))
	}
}

// recordSizes records the sizes of an attempt; up is nil if there was no connection.
func recordSizes(st *cluster.SizeStats, request, response size, up codec.ClientStream) {
	var read, written codec.Wire
	if up != nil {
		read, written = up.WireBytes()
	}
	st.RqHeaders.Record(uint64(request.bytes))
	st.RqFields.Record(uint64(request.fields))
	st.RqBody.Record(uint64(written.Body))
	if response.fields > 0 {
		st.RsHeaders.Record(uint64(response.bytes))
		st.RsFields.Record(uint64(response.fields))
		st.RsBody.Record(uint64(read.Body))
	}
}

// trackRequest records how much of its time a request took that is over: answered, or too
// late.
func (f *Filter) trackRequest(s *filter.Stream) {
	if b := f.cluster.Budgets(); b != nil {
		b.Global.Record(percent(time.Since(s.Meta.Start.Add(f.begun(s))), f.timing.global))
	}
}

// percent is how much of a limit was taken; 0 without a limit.
func percent(took, limit time.Duration) uint64 {
	if limit <= 0 {
		return 0
	}
	return uint64(max(took.Milliseconds(), 0) * 100 / max(limit.Milliseconds(), 1))
}
