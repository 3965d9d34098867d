package wasm

import (
	"strings"

	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/header"
)

// subject is what the guest acts on, nil if that is a root.
func (in *Instance) subject() Subject {
	if in.effective == nil {
		return nil
	}
	return in.effective.subject
}

func (in *Instance) continueStream(a []uint64) Status {
	s := in.subject()
	if s == nil {
		return StatusBadArgument
	}
	return s.Continue(StreamType(a[0]))
}

func (in *Instance) closeStream(a []uint64) Status {
	s := in.subject()
	if s == nil {
		return StatusBadArgument
	}
	return s.Close(StreamType(a[0]))
}

// continueRequest and continueResponse are proxy_continue_stream of ABI 0.1.0.
func (in *Instance) continueRequest([]uint64) Status {
	return in.continueStream([]uint64{uint64(Request)})
}

func (in *Instance) continueResponse([]uint64) Status {
	return in.continueStream([]uint64{uint64(Response)})
}

func (in *Instance) clearRouteCache([]uint64) Status {
	s := in.subject()
	if s == nil {
		return StatusBadArgument
	}
	return s.ClearRouteCache()
}

// sendLocalResponse is (code, details, body, fields, grpc_status).
func (in *Instance) sendLocalResponse(a []uint64) Status {
	s := in.subject()
	if s == nil {
		return StatusBadArgument
	}
	details, ok1 := in.view(a[1], a[2])
	body, ok2 := in.view(a[3], a[4])
	fields, ok3 := in.view(a[5], a[6])
	if !ok1 || !ok2 || !ok3 {
		return StatusInvalidMemoryAccess
	}
	code := uint32(a[0])
	if code < 200 || code > 599 || len(body) > maxBody {
		return StatusBadArgument
	}
	r := &filter.Reply{Code: int(code), Body: string(body), Details: strings.Map(wordRune, string(details))}
	if g := int32(a[7]); g > 0 {
		r.GRPC = int(g)
	}
	ok := readPairs(fields, func(name, value []byte) bool {
		r.Header = append(r.Header, header.Field{Name: strings.ToLower(string(name)), Value: string(value)})
		return valid(string(name), string(value))
	})
	if !ok {
		return StatusBadArgument
	}
	return s.Reply(r)
}

// wordRune keeps details one word, as access logs show them.
func wordRune(r rune) rune {
	if r <= ' ' || r == 0x7f {
		return '_'
	}
	return r
}

// setEffectiveContext lets the guest act on behalf of another of its contexts until the
// callback ends.
func (in *Instance) setEffectiveContext(a []uint64) Status {
	c := in.contexts[uint32(a[0])]
	if c == nil {
		return StatusBadArgument
	}
	in.effective = c
	return StatusOK
}

// done is what a guest calls that has put off the end of a context.
func (in *Instance) done([]uint64) Status {
	c := in.effective
	if c == nil || !c.ending {
		return StatusNotFound
	}
	c.ending = false
	in.ended = append(in.ended, c)
	return StatusOK
}
