package extproc

import (
	"errors"
	"time"

	"github.com/mecha-mesh/mecha/proxy/buffer"
	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/filter/call"
)

// duplexTimeout bounds how long a service may keep what it has been told in the mode
// FULL_DUPLEX_STREAMED, in which it answers in pieces of its own and when it likes.
const duplexTimeout = time.Minute

// How long the service, or the client, is waited for at a time while both may have something to
// say of the request: one goroutine can wait for one of them only. It grows while nothing comes.
const (
	duplexStep = time.Millisecond
	duplexMost = 128 * time.Millisecond
)

// requestDuplex tells a request as it arrives until the service has answered its head, which
// goes on then. What follows is for duplex, unless the request was complete before: then it goes
// on when the service has made a whole of it.
func (f *Filter) requestDuplex(s *filter.Stream) error {
	defer func() { f.request.head = true }()
	if !f.mode.Request.Head {
		f.unsize(&s.Request, f.mode.Request)
		return nil
	}
	if err := f.tell(s, &message{part: requestHead, fields: f.forwarded(&s.Request)}); err != nil {
		return f.failed(s, err)
	}
	begun := time.Now()
	b, all, err := f.untilAnswered(s, begun)
	if err != nil || f.off {
		return err
	}
	a, err := f.await(s, requestHead, begun.Add(duplexTimeout))
	if err != nil || a == nil {
		return err
	}
	f.unsize(&s.Request, f.mode.Request)
	switch err := f.headAnswered(s, a); {
	case err != nil || f.mode.Request.Body != Duplex:
		return err
	case !all:
		f.request.pause = duplexStep
		s.Engine.PollRequest(duplexStep)
		return nil
	}
	for until := begun.Add(duplexTimeout); ; {
		over, err := f.take(s, requestBody, b, until)
		if err != nil || over {
			return err
		}
		if b.Len() > f.limit {
			return f.failed(s, errTooLarge)
		}
	}
}

// untilAnswered tells what of the request arrives until there is an answer. b is where its body
// goes on from; all tells that all of it was told.
func (f *Filter) untilAnswered(s *filter.Stream, begun time.Time) (b *buffer.Buf, all bool, err error) {
	for step := duplexStep; ; {
		b, more, all, err := s.Engine.BufferNext() // each piece is told on its way, see duplex
		if err != nil || f.off {
			return b, all, err
		}
		if more {
			step = duplexStep
			continue
		}
		wait := step
		if step = min(2*step, duplexMost); all {
			wait = duplexTimeout
		}
		err = f.look(minTime(time.Now().Add(wait), begun.Add(duplexTimeout)))
		if err == nil || all || !errors.Is(err, call.ErrTimeout) || time.Since(begun) > duplexTimeout {
			return b, all, f.failedOr(s, err)
		}
		if err := s.Engine.Overdue(begun); err != nil {
			return b, false, err
		}
		if err := s.Engine.Sleep(time.Microsecond); err != nil { // is the client still there?
			return b, false, err
		}
	}
}

func minTime(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

// failedOr is failed, if there is an error.
func (f *Filter) failedOr(s *filter.Stream, err error) error {
	if err == nil {
		return nil
	}
	return f.failed(s, err)
}

// duplex tells a piece and passes on what the service has made of those before. It waits for an
// answer to each piece of a response as long as the service answers in time; one that does not is
// asked for what it has. Requests are polled. After the end it waits for all.
func (f *Filter) duplex(s *filter.Stream, of part, b *buffer.Buf, end bool) error {
	p := f.passage(of)
	f.consumed = true
	if b.Len() > 0 || end {
		if err := f.tell(s, &message{part: of, body: b.Bytes(), end: end}); err != nil {
			return f.failed(s, err)
		}
		b.Release()
		p.pause = 0
	}
	if !p.head {
		return nil // the service has the time that it wants
	}
	until := time.Now()
	switch {
	case end:
		until = until.Add(duplexTimeout)
	case of == requestBody:
		p.pause = min(max(2*p.pause, duplexStep), duplexMost)
		s.Engine.PollRequest(p.pause)
	case !p.slow:
		until = until.Add(f.Timeout)
	}
	for {
		err := f.lookFor(of, until)
		if errors.Is(err, call.ErrTimeout) && !end {
			p.slow = b.Len() == 0
			return nil
		}
		over, err := f.take(s, of, b, until)
		if err != nil || over {
			return err
		}
		if !end {
			p.slow, p.pause, until = false, 0, time.Now() // whatever else is there
		}
	}
}

// duplexTrailers tells trailers, and passes on what the service still makes of the body, and
// then of them.
func (f *Filter) duplexTrailers(s *filter.Stream, of part) error {
	m, body := &s.RequestTrailers, requestBody
	if of == responseTrailers {
		m, body = &s.ResponseTrailers, responseBody
	}
	if err := f.tell(s, &message{part: of, fields: f.forwarded(m)}); err != nil {
		return f.failed(s, err)
	}
	if !f.passage(of).head {
		return nil
	}
	for b, until := s.Engine.BeforeTrailers(), time.Now().Add(duplexTimeout); ; {
		if over, err := f.take(s, body, b, until); err != nil || over {
			return err
		}
		if b.Len() > f.limit {
			return f.failed(s, errTooLarge)
		}
	}
}

// take adds the next piece of a body that the service has made to b, or changes the trailers as
// it says. over tells that nothing follows.
func (f *Filter) take(s *filter.Stream, of part, b *buffer.Buf, until time.Time) (over bool, err error) {
	a, err := f.nextOf(of, until)
	if err != nil {
		return true, f.failed(s, err)
	}
	f.note(s, a)
	switch a.part {
	case immediate:
		return true, f.immediately(s, a)
	case of:
		f.counters.Received.Inc()
		b.Append(a.body)
		return a.end, nil
	case of + 1: // its trailers
		f.counters.Received.Inc()
		m := &s.RequestTrailers
		if of == responseBody {
			m = &s.ResponseTrailers
		}
		return true, f.failedOr(s, f.change(m, a))
	}
	f.counters.Spurious.Inc()
	return true, f.failed(s, errSpurious)
}

// look waits until there is an answer, which stays for next.
func (f *Filter) look(until time.Time) error {
	c := &f.conversation
	if len(c.early) > 0 {
		return nil
	}
	raw, err := c.stream.Receive(until)
	if err == nil {
		c.early = append(c.early, raw)
	}
	return err
}

// lookFor is look for an answer that is for whoever waits for one to that part, see nextOf.
func (f *Filter) lookFor(of part, until time.Time) error {
	a, err := f.nextOf(of, until)
	if err == nil {
		f.passage(of).answers = append([]*answer{a}, f.passage(of).answers...)
	}
	return err
}

// mostAnswers bounds the answers to one direction that wait while nothing of it moves.
const mostAnswers = 1024

// nextOf receives the next answer that is for whoever waits for one to that part. Answers about
// the other direction wait for who wants them, if that may have some.
func (f *Filter) nextOf(of part, until time.Time) (*answer, error) {
	p, other := &f.request, &f.response
	if of >= responseHead {
		p, other = other, p
	}
	if len(p.answers) > 0 {
		a := p.answers[0]
		p.answers = p.answers[1:]
		return a, nil
	}
	for {
		a, err := f.next(until)
		if err != nil || a.part >= immediate || (a.part >= responseHead) == (of >= responseHead) || !other.told {
			return a, err
		}
		if len(other.answers) == mostAnswers {
			return nil, errTooLarge
		}
		other.answers = append(other.answers, a)
	}
}

// passage is how far the direction of a part has come.
func (f *Filter) passage(of part) *passage {
	if of >= responseHead {
		return &f.response
	}
	return &f.request
}
