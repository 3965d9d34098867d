package lua

import (
	"iter"

	glua "github.com/yuin/gopher-lua"

	"github.com/mecha-mesh/mecha/proxy/buffer"
	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/header"
	"github.com/mecha-mesh/mecha/proxy/lua"
)

// run is one function of a script about one direction of a stream. A script that may have
// to let the stream go on runs in a coroutine, and wakes in the hook that sees what it
// waits for.
type run struct {
	*shared
	s        *filter.Stream
	script   *script
	context  map[string]any
	headers  *header.Map
	response bool

	vm    *lua.VM
	host  *host
	err   error // how the script ended
	reply error // what the hook returns, whatever the script says: an answer, the end of the stream

	passed  bool // the head has gone on
	changed bool // the script has changed the head of the request

	waits    wait // what for
	next     func() (wait, bool)
	stop     func()
	yield    func(wait) bool
	end      bool        // the end of the message was seen
	piece    *buffer.Buf // of the body, while the script sees it; lent
	body     *buffer.Buf // all of it, held back; lent
	streamed bool        // the body passes
	trailers *header.Map // lent
}

// wait is what a suspended script waits for.
type wait uint8

const (
	nothing wait = iota
	forPiece
	forBody
	forTrailers
)

// start runs the function of the script until it ends or waits.
func (r *run) start(name string) error {
	vm, err := r.script.program.Take()
	if err != nil {
		r.failed(err)
		return nil
	}
	r.Executions.Inc()
	r.vm, r.host = vm, vm.Host.(*host)
	f := r.host.function(name)
	if f == nil { // the script has taken it away
		r.finish()
		return nil
	}
	if !r.script.suspends {
		r.host.run = r
		r.err = vm.Call(f, r.host.handle)
		r.finish()
		return r.reply
	}
	r.next, r.stop = iter.Pull(func(yield func(wait) bool) {
		r.yield = yield
		r.err = r.vm.Call(f, r.host.handle)
	})
	return r.resume()
}

// resume lets the script go on until it ends or waits again.
func (r *run) resume() error {
	r.waits = nothing
	r.host.run = r
	w, waits := r.next()
	if waits {
		r.waits = w
		r.passed = true
		return nil
	}
	r.finish()
	return r.reply
}

// await suspends the script; it fails where the stream has ended meanwhile.
func (r *run) await(l *glua.LState, w wait) {
	r.routed()
	r.host.run = nil
	if !r.yield(w) {
		r.reply = errEnded
		l.RaiseError("the stream has ended")
	}
}

// errEnded is the reply of runs that nobody waits for.
var errEnded = &filter.Error{Source: filter.Internal, Text: "stream_ended"}

// finish is the end of the script.
func (r *run) finish() {
	r.routed()
	r.host.run = nil
	vm := r.vm
	r.vm, r.host, r.next, r.yield, r.waits = nil, nil, nil, nil, nothing
	if r.stop != nil {
		r.stop()
		r.stop = nil
	}
	if r.err != nil && r.reply == nil {
		r.failed(r.err)
	}
	vm.Put()
}

// routed looks the route up again after the script has changed the head of the request.
func (r *run) routed() {
	if r.changed && !r.KeepRoute && r.reply == nil {
		r.s.Engine.RefreshRoute()
	}
	r.changed = false
}

// data shows a piece of the body to a script that waits.
func (r *run) data(b *buffer.Buf, end bool) error {
	if r.waits == nothing {
		return nil
	}
	r.end = end
	switch {
	case r.waits == forBody && !end, r.waits == forTrailers && !end:
		return nil
	case r.waits == forBody:
		r.body.MoveAll(b)
	case r.waits == forPiece:
		r.piece = b
	}
	err := r.resume()
	r.piece = nil
	return err
}

// sawTrailers shows trailers to a script that waits.
func (r *run) sawTrailers(m *header.Map) error {
	if r.waits == nothing {
		return nil
	}
	r.end, r.trailers = true, m
	err := r.resume()
	r.trailers = nil
	return err
}

// abandon ends a script that nobody will wake.
func (r *run) abandon() {
	if r.vm != nil {
		r.host.run = r
		r.vm.Abandon()
		r.reply = errEnded
		r.finish()
	}
	*r = run{}
}
