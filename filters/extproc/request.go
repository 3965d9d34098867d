package extproc

import (
	"strconv"

	"github.com/mecha-mesh/mecha/proxy/buffer"
	"github.com/mecha-mesh/mecha/proxy/codec"
	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/header"
)

// OnRequestHeaders implements filter.RequestHeaders.
func (f *Filter) OnRequestHeaders(s *filter.Stream, end bool) error {
	f.begin(s)
	if f.off {
		s.Decide("is disabled for the route", "")
		return nil
	}
	f.deciding = true
	defer func() { f.deciding = false }()
	if f.mode.Request.Body == Duplex && !f.Observe && !end && !codec.IsUpgrade(&s.Request) {
		return f.requestDuplex(s)
	}
	if f.mode.Request.Head {
		if err := f.requestHead(s, end); err != nil {
			return err
		}
	}
	f.request.head = true
	if f.off || end {
		return nil
	}
	if codec.IsUpgrade(&s.Request) {
		f.mode.Request.Body, f.mode.Response.Body = NoBody, NoBody // what follows is no body
		return nil
	}
	f.unsize(&s.Request, f.mode.Request)
	switch f.mode.Request.Body {
	case Buffered:
		b, err := f.collect(s, true)
		if err != nil {
			return err
		}
		return f.requestWhole(s, b)
	case BufferedPartial:
		b, err := f.collect(s, false)
		if err != nil {
			return err
		}
		return f.requestWhole(s, b)
	}
	return nil
}

// unsize takes away the length of a body that may change: where the service does not see the
// head it cannot do so itself.
func (f *Filter) unsize(m *header.Map, side Side) {
	if !f.Observe && side.Body != NoBody && (side.Body != Buffered || !side.Head) {
		m.DelID(header.ContentLength)
	}
}

// requestHead tells the head of the request, and does what the answer says.
func (f *Filter) requestHead(s *filter.Stream, end bool) error {
	a, err := f.ask(s, &message{part: requestHead, fields: f.forwarded(&s.Request), end: end})
	if err != nil || a == nil {
		return err
	}
	return f.headAnswered(s, a)
}

// headAnswered does what the answer to the head of the request says.
func (f *Filter) headAnswered(s *filter.Stream, a *answer) error {
	if err := f.change(&s.Request, a); err != nil {
		return f.failed(s, err)
	}
	f.reroute(s, a)
	f.overrideMode(a)
	if !a.replace {
		return nil
	}
	f.mode.Request.Body, f.mode.Request.Trailers = NoBody, false
	f.request.discarding = true
	b, err := s.Engine.BufferRequest(f.limit)
	f.request.discarding = false
	if err != nil {
		return err
	}
	b.Release()
	b.Append(a.body)
	s.RequestTrailers.Reset()
	s.Request.DelID(header.ContentLength)
	return nil
}

// collect reads the request, or as much of it as may be kept.
func (f *Filter) collect(s *filter.Stream, whole bool) (*buffer.Buf, error) {
	f.request.collecting = true
	defer func() { f.request.collecting = false }()
	if whole {
		return s.Engine.BufferRequest(f.limit)
	}
	b, all, err := s.Engine.BufferStart(f.limit)
	f.request.partial = !all
	return b, err
}

// requestWhole tells a body that is at hand, and then trailers that came with it.
func (f *Filter) requestWhole(s *filter.Stream, b *buffer.Buf) error {
	trailers := s.RequestTrailers.Len() > 0
	a, err := f.ask(s, &message{part: requestBody, body: b.Bytes(), end: !trailers && !f.request.partial})
	if err != nil || f.off {
		return err
	}
	if a != nil {
		if f.mode.Request.Head { // otherwise fields are none of the service's business
			if err := f.change(&s.Request, a); err != nil {
				return f.failed(s, err)
			}
			f.reroute(s, a)
		}
		if a.hasBody {
			b.Release()
			b.Append(a.body)
			if !fits(&s.Request, len(a.body)) {
				return f.failed(s, errLength)
			}
		}
	}
	if trailers {
		return f.requestTrailers(s)
	}
	return nil
}

// fits reports whether a body that was changed has the length that the head says, if it says
// one: it is for the service to keep both together.
func fits(m *header.Map, n int) bool {
	return !m.Has(header.ContentLength) || m.Value(header.ContentLength) == strconv.Itoa(n)
}

// OnRequestData implements filter.RequestData.
func (f *Filter) OnRequestData(s *filter.Stream, b *buffer.Buf, end bool) error {
	switch {
	case f.request.discarding:
		b.Release()
		return nil
	case f.off, f.request.collecting, f.request.partial:
		return nil
	case b.Len() == 0 && !end && f.mode.Request.Body != Duplex:
		return nil // another filter polls, or trailers follow
	case f.mode.Request.Body == Streamed, f.Observe && f.mode.Request.Body != NoBody && f.request.head:
		return f.piece(s, requestBody, b, end)
	case f.mode.Request.Body == Duplex:
		return f.duplex(s, requestBody, b, end)
	}
	return nil
}

// piece tells a piece of a body, and puts in its place what the answer says.
func (f *Filter) piece(s *filter.Stream, of part, b *buffer.Buf, end bool) error {
	a, err := f.ask(s, &message{part: of, body: b.Bytes(), end: end})
	if err != nil || a == nil {
		return err
	}
	if a.hasBody {
		b.Release()
		b.Append(a.body)
	}
	return nil
}

// OnRequestTrailers implements filter.RequestTrailers.
func (f *Filter) OnRequestTrailers(s *filter.Stream) error {
	switch {
	case f.off, f.request.collecting, f.request.discarding:
		return nil
	case f.mode.Request.Body == Duplex && !f.Observe:
		return f.duplexTrailers(s, requestTrailers)
	}
	return f.requestTrailers(s)
}

func (f *Filter) requestTrailers(s *filter.Stream) error {
	if f.off || !f.mode.Request.Trailers {
		return nil
	}
	a, err := f.ask(s, &message{part: requestTrailers, fields: f.forwarded(&s.RequestTrailers)})
	if err != nil || a == nil {
		return err
	}
	if err := f.change(&s.RequestTrailers, a); err != nil {
		return f.failed(s, err)
	}
	return nil
}
