package extproc

import (
	"github.com/mecha-mesh/mecha/proxy/buffer"
	"github.com/mecha-mesh/mecha/proxy/codec"
	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/header"
)

// OnResponseHeaders implements filter.ResponseHeaders.
func (f *Filter) OnResponseHeaders(s *filter.Stream, end bool) error {
	if f.off || f.service == nil {
		return nil
	}
	if f.mode.Response.Head {
		f.deciding = true
		defer func() { f.deciding = false }()
		a, err := f.ask(s, &message{part: responseHead, fields: f.forwarded(&s.Response), end: end})
		if err != nil {
			return err
		}
		if a != nil {
			if err := f.responseAnswered(s, a, end); err != nil {
				return err
			}
		}
	}
	f.response.head = true
	if f.off || end || codec.IsUpgrade(&s.Response) || f.Observe {
		return nil
	}
	f.unsize(&s.Response, f.mode.Response)
	if f.mode.Response.Body == Buffered || f.mode.Response.Body == BufferedPartial {
		f.response.collecting = true
		s.Engine.HoldResponse()
	}
	return nil
}

// responseAnswered does what the answer to the head of the response says.
func (f *Filter) responseAnswered(s *filter.Stream, a *answer, end bool) error {
	if err := f.change(&s.Response, a); err != nil {
		return f.failed(s, err)
	}
	f.overrideMode(a)
	if !a.replace || end {
		return nil
	}
	f.mode.Response.Body, f.mode.Response.Trailers = NoBody, false
	f.response.discarding = true
	f.response.content.Append(a.body)
	s.Response.DelID(header.ContentLength)
	return nil
}

// OnResponseData implements filter.ResponseData.
func (f *Filter) OnResponseData(s *filter.Stream, b *buffer.Buf, end bool) error {
	switch {
	case f.response.discarding:
		b.Release()
		b.MoveAll(&f.response.content)
		return nil
	case f.off || f.service == nil:
		return nil
	case f.Observe && f.mode.Response.Body != NoBody, f.mode.Response.Body == Streamed:
		return f.piece(s, responseBody, b, end)
	case f.response.collecting:
		if !end {
			return nil
		}
		held := s.Engine.HoldResponse()
		held.MoveAll(b)
		err := f.responseWhole(s, held, true)
		b.MoveAll(held)
		return err
	case f.mode.Response.Body == Duplex:
		return f.duplex(s, responseBody, b, end)
	}
	return nil
}

// responseWhole tells a body that is at hand.
func (f *Filter) responseWhole(s *filter.Stream, b *buffer.Buf, end bool) error {
	a, err := f.ask(s, &message{part: responseBody, body: b.Bytes(), end: end})
	if err != nil || a == nil {
		return err
	}
	if f.mode.Response.Head {
		if err := f.change(&s.Response, a); err != nil {
			return f.failed(s, err)
		}
	}
	if a.hasBody {
		b.Release()
		b.Append(a.body)
		if !fits(&s.Response, len(a.body)) {
			return f.failed(s, errLength)
		}
	}
	return nil
}

// OnResponseTrailers implements filter.ResponseTrailers.
func (f *Filter) OnResponseTrailers(s *filter.Stream) error {
	if f.off || f.service == nil || f.response.discarding {
		return nil
	}
	if f.response.collecting {
		if err := f.responseWhole(s, s.Engine.HoldResponse(), false); err != nil || f.off {
			return err
		}
	}
	switch {
	case f.mode.Response.Body == Duplex && !f.Observe:
		return f.duplexTrailers(s, responseTrailers)
	case !f.mode.Response.Trailers:
		return nil
	}
	a, err := f.ask(s, &message{part: responseTrailers, fields: f.forwarded(&s.ResponseTrailers)})
	if err != nil || a == nil {
		return err
	}
	if err := f.change(&s.ResponseTrailers, a); err != nil {
		return f.failed(s, err)
	}
	return nil
}
