package fault

import (
	"time"

	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/filter/bandwidth"
)

// pacer slows the response of one stream down.
type pacer struct {
	on     bool
	bucket bandwidth.Bucket
}

var _ filter.Pacer = (*pacer)(nil)

// Take implements filter.Pacer.
func (p *pacer) Take(n int, now time.Time) (int, time.Duration) { return p.bucket.Take(n, now) }

// Complete implements filter.Pacer.
func (p *pacer) Complete(*filter.Stream) {}

// slow slows the response down, if it is one of those.
func (f *Filter) slow(s *filter.Stream) {
	r := f.c.Rate
	if r == nil || !r.Percent.of(s, r.ByHeader, "x-envoy-fault-throughput-response-percentage").Match(chance()) {
		return
	}
	kib := r.KiB
	if r.ByHeader {
		kib, _ = number(&s.Request, "x-envoy-fault-throughput-response")
	}
	if kib == 0 || !f.begin() {
		return
	}
	f.Limited.Inc()
	s.Decide("slows the response down", "")
	f.note(s)
	f.pace.on = true
	f.pace.bucket.Set(kib, bandwidth.Interval)
	s.Engine.PaceResponse(&f.pace)
}
