package wasm

import (
	"time"

	"github.com/mecha-mesh/mecha/proxy/attributes"
	"github.com/mecha-mesh/mecha/proxy/buffer"
	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/header"
	"github.com/mecha-mesh/mecha/proxy/wasm"
)

// Filter is what its context is about. A guest that is called while the stream goes on, as
// for an answer that it does not wait for, sees nothing of the stream: it is being read
// and written by others.
var _ wasm.Subject = (*Filter)(nil)

// Map implements wasm.Subject.
func (f *Filter) Map(t wasm.MapType) (m *header.Map, writable bool) {
	if !f.open {
		return nil, false
	}
	switch t {
	case wasm.RequestHeaders:
		return &f.s.Request, f.hook <= requestTrailers
	case wasm.RequestTrailers:
		if f.request.trailers {
			return &f.s.RequestTrailers, f.hook <= requestTrailers
		}
	case wasm.ResponseHeaders:
		if f.hook >= responseHead {
			return &f.s.Response, f.hook < over
		}
	case wasm.ResponseTrailers:
		if f.response.trailers {
			return &f.s.ResponseTrailers, f.hook < over
		}
	}
	return nil, false
}

// Changed implements wasm.Subject.
func (f *Filter) Changed(t wasm.MapType) {
	if t == wasm.RequestHeaders {
		f.changed = true
	}
}

// Buffer implements wasm.Subject.
func (f *Filter) Buffer(t wasm.BufferType) *buffer.Buf {
	switch {
	case !f.open:
	case t == wasm.RequestBody:
		return f.request.body
	case t == wasm.ResponseBody:
		return f.response.body
	}
	return nil
}

// Attributes implements wasm.Subject.
func (f *Filter) Attributes() (a attributes.Source) {
	if f.open {
		a.Stream = f.s
	}
	return a
}

// Reply implements wasm.Subject.
func (f *Filter) Reply(r *filter.Reply) wasm.Status {
	if f.hook == over || f.answer != nil {
		return wasm.StatusBadArgument
	}
	f.answer = r
	f.rouse()
	return wasm.StatusOK
}

// Continue implements wasm.Subject.
func (f *Filter) Continue(t wasm.StreamType) wasm.Status {
	switch t {
	case wasm.Request:
		f.request.paused = false
	case wasm.Response:
		f.response.paused = false
	default:
		return wasm.StatusBadArgument
	}
	f.rouse()
	return wasm.StatusOK
}

// Close implements wasm.Subject.
func (f *Filter) Close(t wasm.StreamType) wasm.Status {
	if t != wasm.Request && t != wasm.Response {
		return wasm.StatusBadArgument
	}
	f.reset = true
	f.rouse()
	return wasm.StatusOK
}

// ClearRouteCache implements wasm.Subject.
func (f *Filter) ClearRouteCache() wasm.Status {
	f.changed = true
	return wasm.StatusOK
}

func (f *Filter) rouse() {
	if f.wake == nil {
		return
	}
	select {
	case f.wake <- struct{}{}:
	default:
	}
}

// step is how often a stream that waits looks whether it has to end.
const step = 100 * time.Millisecond

// wait waits until the guest lets the direction go on, answers the stream or ends it, or
// fails; it returns the end of the stream, or what the failure makes of it.
func (f *Filter) wait(d *direction) error {
	f.context.Lock()
	if f.wake == nil {
		f.wake = make(chan struct{}, 1)
	}
	f.context.Unlock()
	begun := time.Now()
	t := time.NewTicker(step)
	defer t.Stop()
	for {
		f.context.Lock()
		done, broken := !d.paused || f.answer != nil || f.reset, f.context.Broken()
		f.context.Unlock()
		switch {
		case done:
			return nil
		case broken:
			return f.fail()
		}
		select {
		case <-f.wake:
		case <-t.C:
			if err := f.s.Engine.Overdue(begun); err != nil {
				return err
			}
			if err := f.s.Engine.Sleep(time.Nanosecond); err != nil { // it tells whether the client has gone
				return err
			}
		}
	}
}

// interrupted returns what a guest that has the stream wait for more of a body wants
// besides. The context is locked.
func (f *Filter) interrupted() error {
	switch {
	case f.answer != nil:
		answer := f.answer
		f.answer = nil
		return answer
	case f.reset:
		return errReset
	}
	return nil
}
