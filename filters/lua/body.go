package lua

import (
	glua "github.com/yuin/gopher-lua"

	"github.com/mecha-mesh/mecha/proxy/buffer"
	"github.com/mecha-mesh/mecha/proxy/header"
)

// defaultLimit is per_connection_buffer_limit_bytes of a listener that does not say.
const defaultLimit = 1 << 20

// bytes is an object for a body or a piece of one.
type bytes struct {
	b *buffer.Buf
	r *run
	// whole tells that it is the body and not a piece.
	whole bool
}

// buffer is what a method of a body object is about. A piece is there until the script asks
// for the next one.
func (h *host) buffer(l *glua.LState) *bytes {
	o, ok := l.CheckUserData(1).Value.(*bytes)
	if !ok {
		l.ArgError(1, "body expected")
	}
	r := h.current(l)
	if o.r != r || o.whole && r.body != o.b || !o.whole && r.piece != o.b {
		l.RaiseError("object used outside of proper scope")
	}
	return o
}

func (h *host) bodyMethods() methods {
	return methods{
		"length": func(l *glua.LState) int {
			l.Push(glua.LNumber(h.buffer(l).b.Len()))
			return 1
		},
		"getBytes": func(l *glua.LState) int {
			b := h.buffer(l).b
			from, n := l.CheckInt(2), l.CheckInt(3)
			if from < 0 || n < 0 || n > b.Len() || from > b.Len()-n {
				l.RaiseError("index/length must be >= 0 and (index + length) must be <= buffer size")
			}
			h.vm.Charge(l, n)
			out := make([]byte, 0, n)
			for view := range b.Views() {
				skip := min(from, len(view))
				from -= skip
				view = view[skip:]
				view = view[:min(len(view), n-len(out))]
				out = append(out, view...)
			}
			return pushText(l, string(out))
		},
		"setBytes": func(l *glua.LState) int {
			o := h.buffer(l)
			text := l.CheckString(2)
			if !o.whole && o.r.headers.Has(header.ContentLength) && len(text) != o.b.Len() {
				l.RaiseError("setBytes() cannot change the length of a piece of a body whose length has been announced")
			}
			o.b.Release()
			o.b.AppendString(text)
			if o.whole {
				o.r.headers.SetInt(header.ContentLength, int64(len(text)))
			}
			l.Push(glua.LNumber(len(text)))
			return 1
		},
	}
}

func (h *host) push(l *glua.LState, o *bytes) int {
	l.Push(h.object("body", o))
	return 1
}

// wholeBody is body(always_wrap_body): it waits for all of the body, which does not pass
// meanwhile. Without one it is nil, unless an empty one is wanted.
func (h *host) wholeBody(l *glua.LState, r *run) int {
	wrap := l.ToBool(2)
	switch {
	case r.streamed:
		l.RaiseError("cannot call body() after body streaming has started")
	case r.body != nil:
		return h.push(l, &bytes{r.body, r, true})
	case r.end:
		if !wrap {
			l.Push(glua.LNil)
			return 1
		}
		r.body = new(buffer.Buf)
		return h.push(l, &bytes{r.body, r, true})
	case r.response:
		r.body = r.s.Engine.HoldResponse()
		r.await(l, forBody)
	default:
		limit := r.env.BufferLimit
		if limit == 0 {
			limit = defaultLimit
		}
		r.waiting(func() { r.body, r.reply = r.s.Engine.BufferRequest(limit) })
		if r.reply != nil {
			l.RaiseError("the body did not come")
		}
		r.end = true
		if r.s.RequestTrailers.Len() > 0 {
			r.trailers = &r.s.RequestTrailers
		}
	}
	if r.body.Len() == 0 && !wrap {
		l.Push(glua.LNil)
		return 1
	}
	return h.push(l, &bytes{r.body, r, true})
}

// chunks is bodyChunks(): an iterator over the pieces of the body as they pass.
func (h *host) chunks(l *glua.LState, r *run) int {
	if r.body != nil {
		l.RaiseError("cannot call bodyChunks after body processing has begun")
	}
	r.streamed = true
	l.Push(l.NewFunction(func(l *glua.LState) int {
		r := h.current(l)
		if !r.end {
			r.piece = nil
			r.await(l, forPiece)
		} else {
			r.piece = nil
		}
		if r.piece == nil || r.piece.Len() == 0 {
			l.Push(glua.LNil)
			return 1
		}
		return h.push(l, &bytes{b: r.piece, r: r})
	}))
	return 1
}

// trailersOf is trailers(): it waits for the end of the body, which passes meanwhile.
func (h *host) trailersOf(l *glua.LState, r *run) int {
	if !r.end {
		r.streamed = true
		r.await(l, forTrailers)
	}
	if r.trailers == nil {
		l.Push(glua.LNil)
		return 1
	}
	l.Push(h.trailing)
	return 1
}
