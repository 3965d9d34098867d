package wasm

import (
	"github.com/mecha-mesh/mecha/proxy/buffer"
	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/wasm"
)

// bodies is the filter for guests that want to see more than heads.
type bodies struct{ Filter }

// defaultLimit is per_connection_buffer_limit_bytes of a listener that does not say.
const defaultLimit = 1 << 20

var (
	tooLargeRequest  = &filter.Reply{Code: 413, Body: "Payload Too Large", Details: "request_payload_too_large"}
	tooLargeResponse = &filter.Reply{Code: 500, Body: "Internal Server Error", Details: "response_payload_too_large"}
)

// OnRequestData implements filter.RequestData.
func (f *bodies) OnRequestData(_ *filter.Stream, b *buffer.Buf, end bool) error {
	return f.data(&f.request, requestBody, b, end)
}

// OnResponseData implements filter.ResponseData.
func (f *bodies) OnResponseData(_ *filter.Stream, b *buffer.Buf, end bool) error {
	return f.data(&f.response, responseBody, b, end)
}

func (f *bodies) data(d *direction, h hook, b *buffer.Buf, end bool) error {
	if f.asleep() {
		return nil
	}
	f.context.Lock()
	f.open, f.hook = true, h
	seen := b
	if d.held {
		d.kept.MoveAll(b)
		seen = &d.kept
		if d.kept.Len() > f.limit() {
			f.open = false
			f.context.Unlock()
			if h == requestBody {
				return tooLargeRequest
			}
			return tooLargeResponse
		}
	}
	d.body = seen
	action, err := f.tell(h, seen.Len(), end)
	d.body = nil
	d.held, d.paused = false, false
	switch {
	case err != nil:
	case action == wasm.Continue:
	case !end:
		d.held = true
		d.kept.MoveAll(seen)
		f.open = false
		err := f.interrupted()
		f.context.Unlock()
		return err
	default:
		d.paused = true
		d.body = seen
	}
	err = f.settle(d, err)
	d.body = nil
	b.MoveAll(&d.kept)
	return err
}

func (f *bodies) tell(h hook, n int, end bool) (uint64, error) {
	if h == requestBody {
		return f.context.OnRequestBody(n, end)
	}
	return f.context.OnResponseBody(n, end)
}

func (f *Filter) limit() int {
	if f.env.BufferLimit > 0 {
		return f.env.BufferLimit
	}
	return defaultLimit
}

// OnRequestTrailers implements filter.RequestTrailers.
func (f *bodies) OnRequestTrailers(s *filter.Stream) error {
	if f.asleep() {
		return nil
	}
	f.context.Lock()
	f.open, f.hook, f.request.trailers = true, requestTrailers, true
	f.request.reach()
	action, err := f.context.OnRequestTrailers(s.RequestTrailers.Len())
	err = f.after(&f.request, action, err)
	f.let(&f.request)
	return err
}

// OnResponseTrailers implements filter.ResponseTrailers.
func (f *bodies) OnResponseTrailers(s *filter.Stream) error {
	if f.asleep() {
		return nil
	}
	f.context.Lock()
	f.open, f.hook, f.response.trailers = true, responseTrailers, true
	f.response.reach()
	action, err := f.context.OnResponseTrailers(s.ResponseTrailers.Len())
	err = f.after(&f.response, action, err)
	f.let(&f.response)
	return err
}

// reach gives a guest that sees trailers the body that it has had kept together.
func (d *direction) reach() {
	if d.held {
		d.body = &d.kept
	}
}

// let lets go on, before trailers, what was kept of a body.
func (f *Filter) let(d *direction) {
	d.body = nil
	if d.kept.Len() > 0 {
		f.s.Engine.BeforeTrailers().MoveAll(&d.kept)
	}
	d.held = false
}
