package l7

import (
	"sync/atomic"
	"time"

	"github.com/mecha-mesh/mecha/proxy/buffer"
	"github.com/mecha-mesh/mecha/proxy/codec"
	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/netio"
)

// pace is one direction of a stream whose body goes no faster than filters let it.
type pace struct {
	by []paced

	rest    buffer.Buf    // of the request: what was read and may not go on yet
	next    codec.Next    // what follows rest
	wait    time.Duration // before more of it is asked for
	holding atomic.Bool   // there is a rest; the other goroutine looks
	stop    chan struct{} // kept for the next stream
}

// paced is one filter's say.
type paced struct {
	pacer  filter.Pacer
	at     int // the place of the filter in its chain
	credit int // bytes that it has granted and others have not
}

func (p *pace) on() bool { return len(p.by) > 0 }

func (p *pace) reset() {
	clear(p.by)
	p.by = p.by[:0]
	p.rest.Release()
	p.next, p.wait = codec.End, 0
	p.restart()
	p.holding.Store(false)
}

// grant returns how many of n bytes may go and, if that is not all, after how long to ask
// for the rest.
func (p *pace) grant(n int, now time.Time) (granted int, again time.Duration) {
	granted = n
	for i := range p.by {
		q := &p.by[i]
		if q.credit < granted {
			more, wait := q.pacer.Take(granted-q.credit, now)
			q.credit += more
			again = max(again, wait)
		}
		granted = min(granted, q.credit)
		if granted == 0 {
			return 0, max(again, time.Millisecond)
		}
	}
	for i := range p.by {
		p.by[i].credit -= granted
	}
	return granted, again
}

// PaceRequest implements filter.Engine.
func (st *stream) PaceRequest(p filter.Pacer) {
	if st.inPace.stop == nil {
		st.inPace.stop = make(chan struct{}, 1)
	}
	st.inPace.by = append(st.inPace.by, paced{pacer: p, at: st.Deciding})
}

// PaceResponse implements filter.Engine.
func (st *stream) PaceResponse(p filter.Pacer) {
	st.outPace.by = append(st.outPace.by, paced{pacer: p, at: st.Deciding})
}

// recvPaced is Recv for a request that is paced.
func (st *stream) recvPaced(b *buffer.Buf) (codec.Next, error) {
	p := &st.inPace
	if p.rest.Len() == 0 {
		next, err := st.recv(&p.rest)
		if err != nil {
			p.rest.Release()
			return 0, err
		}
		p.next = next
		p.holding.Store(p.rest.Len() > 0)
	}
	for p.rest.Len() > 0 {
		if p.wait > 0 {
			if err := st.waitPaced(p.wait); err != nil {
				return 0, err
			}
		}
		var n int
		n, p.wait = p.grant(p.rest.Len(), time.Now())
		if n > 0 {
			b.Move(&p.rest, n)
			break
		}
	}
	if p.rest.Len() > 0 {
		return codec.Data, nil
	}
	p.holding.Store(false)
	if p.next != codec.Data {
		st.monitor.Lock()
		defer st.monitor.Unlock()
		for i := range p.by {
			p.by[i].pacer.Complete(&st.Stream)
		}
	}
	return p.next, nil
}

// restart forgets an interruption that was meant for another attempt.
func (p *pace) restart() {
	select {
	case <-p.stop:
	default:
	}
}

// waitPaced waits until more of the request may go on.
func (st *stream) waitPaced(d time.Duration) error {
	st.noteMoved()
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-st.inPace.stop:
		return netio.ErrInterrupted
	case <-st.conn.down.Engine.Context().Done():
		return errGone
	}
}

// sendPaced sends what of b may go by and by, except for a last part, which it leaves in b.
func (st *stream) sendPaced(b *buffer.Buf) error {
	for b.Len() > 0 {
		n, again := st.outPace.grant(b.Len(), time.Now())
		if n == b.Len() {
			return nil
		}
		if n > 0 {
			var part buffer.Buf
			part.Move(b, n)
			st.Meta.BytesSent += int64(n)
			if err := st.down.WriteData(&part, false); err != nil {
				return st.unsent(err)
			}
			st.noteMoved()
		}
		if err := st.down.Flush(); err != nil {
			return st.unsent(err)
		}
		if err := st.Sleep(again); err != nil {
			return err
		}
		st.Tick()
	}
	return nil
}

// endPaced completes the pacing of a response whose end comes next. trailers is the place
// of the filter that has added some, -1 for none; so is what it returns.
func (st *stream) endPaced(trailers int) int {
	st.monitor.Lock()
	defer st.monitor.Unlock()
	had := trailers >= 0 || st.ResponseTrailers.Len() > 0
	for i := range st.outPace.by {
		st.outPace.by[i].pacer.Complete(&st.Stream)
		if !had && st.ResponseTrailers.Len() > 0 {
			trailers, had = st.outPace.by[i].at, true
		}
	}
	return trailers
}
