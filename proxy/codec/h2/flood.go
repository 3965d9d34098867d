package h2

// What a peer can send costs it little and us something: frames that carry nothing,
// that ask for an answer, or that begin and give up work. Each kind has a budget. One
// that is exceeded ends the connection (ENHANCE_YOUR_CALM) and is counted.

// flood is what the budgets are compared with. The goroutine that reads owns it, but for
// what the connection's lock guards.
type flood struct {
	empty    uint64 // frames in a row without payload or end
	priority uint64
	updates  uint64
	resets   bucket

	opened uint64 // streams; the lock guards it
	sent   uint64 // DATA frames; the lock guards it
}

// inbound counts a frame against the budgets (Envoy's protocol constraints).
func (c *conn) inbound(h FrameHeader) *connError {
	f := &c.flood
	switch h.Type {
	case FrameData, FrameHeaders, FrameContinuation:
		// A CONTINUATION has no end of stream, and one that ends the header section has a use.
		if h.Length == 0 && !(h.Type != FrameContinuation && h.has(FlagEndStream)) && !(h.Type == FrameContinuation && h.has(FlagEndHeaders)) {
			if f.empty++; f.empty > c.lim.empty {
				c.stats.EmptyFlood.Inc()
				return &connError{EnhanceYourCalm, "too many empty frames in a row", detailsEmptyFlood}
			}
			return nil
		}
		f.empty = 0
	case FramePriority:
		c.mu.Lock()
		opened := f.opened
		c.mu.Unlock()
		if f.priority++; f.priority > c.lim.priority*(1+opened) {
			c.stats.PriorityFlood.Inc()
			return &connError{EnhanceYourCalm, "too many PRIORITY frames", detailsUnknown}
		}
	case FrameWindowUpdate:
		c.mu.Lock()
		opened, sent := f.opened, f.sent
		c.mu.Unlock()
		if f.updates++; f.updates > 5+2*(opened+c.lim.updates*sent) {
			c.stats.WindowUpdateFlood.Inc()
			return &connError{EnhanceYourCalm, "too many WINDOW_UPDATE frames", detailsUnknown}
		}
	}
	return nil
}

// ring remembers the streams that we reset last: frames for them may still be on
// their way and mean nothing. Those that it has forgotten it takes to be older than any
// that it knows of, and says of all old ones that they were reset.
type ring struct {
	ids  [64]uint32
	next int
	old  uint32 // the highest that was forgotten
}

func (r *ring) add(id uint32) {
	at := &r.ids[r.next%len(r.ids)]
	r.old = max(r.old, *at)
	*at = id
	r.next++
}

func (r *ring) has(id uint32) bool {
	if id <= r.old {
		return true
	}
	for _, x := range r.ids {
		if x == id {
			return true
		}
	}
	return false
}
