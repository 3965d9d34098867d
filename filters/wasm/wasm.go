// Package wasm is the HTTP filter wasm: plugins in WebAssembly see requests and responses,
// change them, answer them, and ask others about them.
//
// How guests are run and kept within limits is in package proxy/wasm. Here is what their
// answers mean for a stream: when it waits, what of it a guest sees meanwhile, and what
// becomes of it when the guest fails.
package wasm

import (
	"github.com/mecha-mesh/mecha/proxy/buffer"
	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/wasm"
)

// Spec describes the filter.
var Spec = filter.HTTPSpec[*wasm.Config]{
	Name:  "envoy.filters.http.wasm",
	Type:  "envoy.extensions.filters.http.wasm.v3.Wasm",
	Parse: parse,
	New:   newFactory,
}

// shared is what all streams of one chain have in common.
type shared struct {
	plugin *wasm.Plugin
	env    filter.Env
	// reply is the answer of streams whose guest has failed; nil lets them go on.
	reply *filter.Reply
}

// failed is the answer under FAIL_CLOSED and FAIL_RELOAD.
var failed = &filter.Reply{Code: 503, Details: "wasm_fail_stream", GRPC: 14}

func newFactory(c *wasm.Config, env filter.Env) (func() filter.HTTP, error) {
	p, err := wasm.Open(c, env)
	if err != nil {
		return nil, err
	}
	sh := &shared{plugin: p, env: env, reply: failed}
	if c.Policy == wasm.FailOpen {
		sh.reply = nil
	}
	if p.SeesBodies() {
		return func() filter.HTTP { return &bodies{Filter{shared: sh}} }, nil
	}
	return func() filter.HTTP { return &Filter{shared: sh} }, nil
}

// Filter serves one stream at a time. Its fields are guarded by the lock of the context
// where the guest may be called by somebody else meanwhile: an answer to a call, a timer.
type Filter struct {
	*shared
	s       *filter.Stream
	context wasm.Context
	begun   bool // the guest knows the stream
	gone    bool // the guest has failed: it is not asked any more
	open    bool // the guest may look at the stream: it runs in a hook, or the stream waits
	hook    hook // the newest part that the guest has seen

	request, response direction
	answer            *filter.Reply
	reset             bool
	wake              chan struct{} // made when the stream waits
	changed           bool          // the guest has changed what the route depends on
}

// hook is a part of a stream.
type hook uint8

const (
	requestHead hook = iota + 1
	requestBody
	requestTrailers
	responseHead
	responseBody
	responseTrailers
	over
)

// direction is a request or a response on its way.
type direction struct {
	paused   bool        // the guest wants it to wait
	held     bool        // the guest wants the body kept together: it is in kept
	kept     buffer.Buf  // owned
	body     *buffer.Buf // what the guest sees of the body now; lent
	trailers bool        // they are there
}

var (
	_ filter.RequestHeaders   = (*Filter)(nil)
	_ filter.ResponseHeaders  = (*Filter)(nil)
	_ filter.Done             = (*Filter)(nil)
	_ filter.RequestData      = (*bodies)(nil)
	_ filter.RequestTrailers  = (*bodies)(nil)
	_ filter.ResponseData     = (*bodies)(nil)
	_ filter.ResponseTrailers = (*bodies)(nil)
)

// Reset implements filter.HTTP.
func (f *Filter) Reset() {
	if f.begun {
		f.leave()
	}
	f.request.kept.Release()
	f.response.kept.Release()
	wake := f.wake
	*f = Filter{shared: f.shared, wake: wake}
}

func (f *Filter) leave() {
	f.begun = false
	f.context.Leave() // which notes what goes wrong
}

// OnDone implements filter.Done.
func (f *Filter) OnDone(*filter.Stream) {
	if !f.begun {
		return
	}
	f.context.Lock()
	f.open, f.hook = true, over
	f.context.Unlock()
	f.leave()
	f.open = false
}

// OnRequestHeaders implements filter.RequestHeaders.
func (f *Filter) OnRequestHeaders(s *filter.Stream, end bool) error {
	f.s = s
	f.open, f.hook = true, requestHead
	if err := f.plugin.Enter(&f.context, f); err != nil {
		f.begun = f.context.Entered()
		return f.fail()
	}
	f.begun = true
	f.context.Lock()
	action, err := f.context.OnRequestHeaders(s.Request.Len(), end)
	return f.after(&f.request, action, err)
}

// after is what comes of the answer to a head or to trailers. The context is locked.
func (f *Filter) after(d *direction, action uint64, err error) error {
	d.paused = err == nil && action != wasm.Continue
	return f.settle(d, err)
}

// settle ends a hook: it waits for as long as the guest wants. The context is locked.
func (f *Filter) settle(d *direction, err error) error {
	if err != nil {
		f.open = false
		f.context.Unlock()
		return f.fail()
	}
	var ended error
	if d.paused && f.answer == nil && !f.reset {
		f.context.Unlock()
		ended = f.wait(d)
		f.context.Lock()
	}
	f.open = false
	answer, reset, changed := f.answer, f.reset, f.changed
	f.answer, f.changed = nil, false
	f.context.Unlock()
	switch {
	case ended != nil:
		return ended
	case answer != nil:
		return answer
	case reset:
		return errReset
	}
	if changed && d == &f.request {
		f.s.Engine.RefreshRoute()
	}
	return nil
}

// errReset is the end of a stream that the guest has closed.
var errReset = &filter.Error{Source: filter.Internal, Text: "wasm_close_stream"}

// fail is what becomes of a stream whose guest has failed.
func (f *Filter) fail() error {
	f.gone = true
	if f.reply == nil {
		f.s.Decide("goes on without the plugin, which has failed", f.plugin.Name)
		return nil
	}
	f.s.Decide("fails with the plugin", f.plugin.Name)
	return f.reply
}

// asleep reports whether the guest sees nothing more of the stream.
func (f *Filter) asleep() bool { return !f.begun || f.gone }

// OnResponseHeaders implements filter.ResponseHeaders.
func (f *Filter) OnResponseHeaders(s *filter.Stream, end bool) error {
	if f.asleep() {
		return nil
	}
	f.context.Lock()
	f.open, f.hook = true, responseHead
	action, err := f.context.OnResponseHeaders(s.Response.Len(), end)
	return f.after(&f.response, action, err)
}
