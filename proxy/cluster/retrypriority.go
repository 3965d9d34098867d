package cluster

// previousPriorities returns the load of each priority without those of the hosts that
// were tried (envoy.retry_priorities.previous_priorities). Nil means that nothing
// changes. It may allocate: it is only called for retries.
func (v *view) previousPriorities(tried []*Host, frequency int) *loads {
	if len(tried) < frequency {
		return nil
	}
	var now *loads
	excluded := make([]bool, len(v.priorities))
	from := 0
	for n := frequency; n <= len(tried); n += frequency {
		for _, h := range tried[from:n] {
			if int(h.Priority) < len(excluded) {
				excluded[h.Priority] = true
			}
		}
		next, any := v.without(excluded)
		if !any { // begin again with all of them
			clear(excluded)
			from = n
			if next, any = v.without(excluded); !any {
				return nil // nothing is available anywhere
			}
		}
		now = next
	}
	return now
}

// without spreads the load over the priorities that are not excluded; false if none of
// them can take any.
func (v *view) without(excluded []bool) (*loads, bool) {
	n := len(v.priorities)
	l := &loads{make([]int, n), make([]int, n), nil}
	healthy, degraded, sum := make([]int, n), make([]int, n), 0
	for i, c := range v.counts {
		if !excluded[i] {
			healthy[i], degraded[i] = c.availability(v.policy.overprovisioning)
			sum += healthy[i] + degraded[i]
		}
	}
	available := min(100, sum)
	if available == 0 {
		return nil, false
	}
	left := 100
	for left > 0 { // what rounding leaves goes round again
		for i, can := range healthy {
			part := min(left, can*100/available)
			l.healthy[i] += part
			left -= part
		}
		for i, can := range degraded {
			part := min(left, can*100/available)
			l.degraded[i] += part
			left -= part
		}
	}
	return l, true
}

// choose returns the priority that a percentile falls into, and which of its hosts are
// meant.
func (l *loads) choose(percentile int) share {
	for i, n := range l.healthy {
		if percentile -= n; percentile < 0 {
			return share{priority: i}
		}
	}
	for i, n := range l.degraded {
		if percentile -= n; percentile < 0 {
			return share{priority: i, degraded: true}
		}
	}
	return share{}
}
